"""The golden run of every installed framework gives the numbers that are kept, to the tolerance of their arithmetic.

A failure here says that behaviour has changed, not that it is wrong: `tests/studies/golden/make.py` says how to keep
the new numbers where the change was meant.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from backends import installed_backends
from tests.studies.golden.make import NAMES, kept_numbers, names, numbers, results

RELATIVE = 1e-4
"""With a processor's oldest instructions in place of its newest, bounds, losses and distances move by up to 2e-7 of
themselves, and standard errors by 4e-6: 30 steps of float32 have no time to drift."""
ABSOLUTE = {"precision": 0.05, "recall": 0.05, "coverage": 0.05, "memorisation": 0.01}
"""Shares of 30 points, one of which may change sides."""


@pytest.fixture(scope="module", params=installed_backends())
def golden(request, tmp_path_factory):
    """The framework, the results of its golden run as made now, and the run's folder."""
    folder = tmp_path_factory.mktemp("golden")
    return request.param, results(request.param, folder), folder


def test_names_are_those_kept(golden):
    """Columns, cells, files, and how many rows of each metric in which unit: the same in every framework."""
    backend, frame, folder = golden
    assert names(frame, backend, folder) == json.loads(NAMES.read_text())


def test_numbers_are_those_kept(golden):
    backend, frame, _ = golden
    now, kept = numbers(frame), kept_numbers()[backend]
    assert list(now.index) == list(kept.index)
    metric = now.index.get_level_values("metric")
    allowed = RELATIVE * np.abs(kept) + np.array([ABSOLUTE.get(name, 0.0) for name in metric])
    moved = np.abs(now - kept) > allowed
    assert not moved.any(), f"{moved.sum()} of {len(now)} numbers have moved:\n" + (
        kept[moved].to_frame("kept").assign(now=now[moved]).to_string()
    )
