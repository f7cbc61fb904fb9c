"""Hypothesis profiles, and the --slow switch."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

TRIED_ON_MUTANTS = Path("mutmut-stats.json")  # in the copy of this tree that mutmut works in

settings.register_profile(
    "default",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize="CI" in os.environ,  # a merge is judged on the same examples each time; other runs look further
)
settings.register_profile(
    "mutants",  # thousands of runs of these tests: the same few examples each time, and a failure is not made small
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "thorough", parent=settings.get_profile("default"), max_examples=2000, derandomize=True
)  # pytest --hypothesis-profile=thorough: many more of the same for tests that take their number from the profile
settings.load_profile("mutants" if "MUTANT_UNDER_TEST" in os.environ else "default")
if "MUTANT_UNDER_TEST" in os.environ:  # Hypothesis offers each failure as a patch, in more time than the test took
    sys.modules["hypothesis.extra._patching"] = None  # type: ignore[assignment]


def pytest_sessionstart(session: pytest.Session) -> None:
    if "MUTANT_UNDER_TEST" in os.environ:  # a forked worker: what a test module computes on import is computed anew
        for name in [name for name in sys.modules if name.rpartition(".")[2].startswith("test_")]:
            del sys.modules[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow", action="store_true", help="run only the tests marked slow, which are otherwise deselected"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = bool(config.getoption("--slow"))
    chosen = [item for item in items if ("slow" in item.keywords) == wanted]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    if TRIED_ON_MUTANTS.exists():  # the quick tests first: most mutants then die young
        seconds = json.loads(TRIED_ON_MUTANTS.read_text())["duration_by_test"]
        chosen.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
    items[:] = chosen
