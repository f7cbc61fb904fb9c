"""Study scripts as a user starts them, in this process and on the fakes: a command line in, and what it led to out.

A script's `main` runs as it is, but for two things: the processes that it starts run here, one at a time, each as the
module that the command names, and the report, which would load matplotlib, is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import runpy
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import backends
from backends.interface import Draws, Weights
from core.reverse import ReverseProcess
from tests.studies.custody.fake_backend import (
    TRAINS_POINTS,
    ChainRun,
    Evaluation,
    FakeBackend,
    FakeNetwork,
    MadeField,
    MadeTerms,
    Reported,
    Trained,
)

REPORTS = (
    "studies.reporting.page", "studies.samplers.report", "studies.estimators.report", "studies.throughput.report",
)  # fmt: skip
"""The modules whose `make_report` writes a report: left out here."""

SMALL = {
    "--backends": "fake_one",
    "--objectives": "epsilon_mse",
    "--schedules": "cosine",
    "--seeds": "1",
    "--num-steps": "12",
    "--mlp-width": "4",
    "--mlp-depth": "1",
    "--train-steps": "3",
    "--warmup-steps": "2",
    "--batch-size": "5",
    "--bound-evaluations": "20",
    "--flow-examples": "2",
    "--samples": "20",
    "--sample-steps": "4",
    "--full-samples": "3",
    "--device": "cpu",
    "--compile": "off",
    "--together": "off",
    "--jobs": "1",
}
"""The command line of one small cell; a test adds its flag, or gives another value to one of these."""


def words_of(flags: Mapping[str, str], changes: str) -> list[str]:
    """The command line of `flags`, with what `changes` (as one types it) says in its place or beside it."""
    merged: dict[str, list[str]] = {flag: words.split() for flag, words in flags.items()}
    flag = ""
    for word in changes.split():
        if word.startswith("--"):
            flag = word
            merged[flag] = []
        else:
            merged[flag].append(word)
    return [word for flag, words in merged.items() for word in (flag, *words)]


def of_draws(
    weights: Weights, process: ReverseProcess, draws: Draws
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Losses of the draws alone, so that a budget is shared out alike whatever was trained."""
    axes = tuple(range(1, draws.x_0.ndim))
    mse = np.mean((draws.x_0 - 0.5 * draws.epsilon) ** 2, axis=axes) + draws.t / process.num_steps
    return mse, 3 * mse / np.sqrt(draws.t)


def of_noise(
    weights: Weights, process: ReverseProcess, draws: Draws
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The KL of a network whose squared error, 2 on average, depends on the noise, but not on its square."""
    squared_error = 2 + np.cos(40 * draws.epsilon[:, 0])
    kl: np.ndarray[Any, Any] = process.tables.kl_on_squared_error[draws.t] * squared_error
    return squared_error, kl


class InProcess:
    """What a script sees of a process that it started: its lines, which are made as they are asked for."""

    def __init__(self, run: Callable[[Sequence[str], InProcess], str], command: Sequence[str], **options: Any) -> None:
        self.module, self.arguments, self.status = command[2], list(command[3:]), 1
        self.env = {name: value for name, value in options["env"].items() if name != "PYTEST_CURRENT_TEST"}
        self.stdin, self.stdout = None, self._lines(run)

    def _lines(self, run: Callable[[Sequence[str], InProcess], str]) -> Iterator[str]:
        yield from run(self.arguments, self).splitlines(keepends=True)

    def wait(self) -> int:
        return self.status

    def terminate(self) -> None:
        """Nothing is left to end."""


@dataclasses.dataclass(eq=False)
class Seen:
    """What a command led to: its status, the processes it started, what reached the fakes, and its folder."""

    status: int
    processes: list[InProcess]
    most_at_once: int
    fakes: dict[str, FakeBackend]
    out: Path
    said: str
    """On standard output."""

    @property
    def fake(self) -> FakeBackend:
        return self.fakes["fake_one"]

    @property
    def trained(self) -> Trained:
        (only,) = self.fake.trainings
        return only

    @property
    def evaluation(self) -> Evaluation:
        (only,) = self.fake.evaluations
        return only

    @property
    def rows(self) -> pd.DataFrame:
        return pd.read_csv(self.out / "results.csv")

    @property
    def settings(self) -> dict[str, Any]:
        """As recorded in the folder."""
        return dict(json.loads((self.out / "settings.json").read_text()))

    @property
    def cells(self) -> list[str]:
        """The cells that processes were started for, in order."""
        return [name for process in self.processes for name in process.arguments[1:]]

    def chains(self) -> list[ChainRun]:
        return self.fake.of(ChainRun)

    def processes_of(self) -> dict[str, ReverseProcess]:
        """The reverse process that each stage was given."""
        respaced, whole = self.chains()
        (field,) = self.fake.of(MadeField)
        return {
            "training": self.trained.process,
            "bound": self.evaluation.made.process,
            "flow": field.process,
            "respaced chain": respaced.process,
            "whole chain": whole.process,
        }

    def executions(self) -> set[Any]:
        """Those of every network, training, bound, flow and chain."""
        kinds = (FakeNetwork, Trained, MadeTerms, MadeField, ChainRun)
        calls = [call for call in self.fake.calls if isinstance(call, kinds)]
        assert {type(call) for call in calls} == set(kinds)
        return {call.execution for call in calls}


class Commands:
    """Runs commands; `given` gathers the flags that were on their lines."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.given, self._count = folder, set[str](), 0

    def study(self, changes: str = "", **options: Any) -> Seen:
        """`compare_objectives` on the small points, with these changes."""
        flags = {**SMALL, "--dataset": str(self.folder / "points.npz")}
        return self.run("compare_objectives", words_of(flags, changes), changes, **options)

    def run(
        self,
        script: str,
        words: Sequence[str],
        changes: str = "",
        *,
        execute: bool = True,
        at_once: int = 1,
        losses: Callable[..., Any] = of_draws,
        samples: np.ndarray[Any, Any] | None = None,
        process: Callable[..., Any] | None = None,
    ) -> Seen:
        """The command's outcome; `--out`, where it is not among the words, is a new folder.

        Without `execute` its processes end at once and badly; each first waits until there are `at_once` of them.
        `process`, where it is given, makes what stands for a process from the command and Popen's options.
        """
        self.given |= {word for word in changes.split() if word.startswith("--")}
        self._count += 1
        words = list(words) + ([] if "--out" in words else ["--out", str(self.folder / f"out{self._count}")])
        out = Path(words[words.index("--out") + 1])
        made = {name: FakeBackend(name) for name in ("fake_one", "fake_two")}
        for fake in made.values():
            fake.losses = losses
            # What is not finite is not scored, which would take far longer than all else.
            fake.samples = np.full((64, 1), np.nan) if samples is None else samples
        said = io.StringIO()
        started = _Started(made, execute, threading.Barrier(at_once), process)
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.delenv("KERAS_BACKEND", raising=False)
            for name in reversed(list(backends.BACKENDS)):  # undone last to first, so that their order comes back
                patch.delitem(backends.BACKENDS, name)
            for name, fake in made.items():
                patch.setitem(backends.BACKENDS, name, lambda: TRAINS_POINTS)
                patch.setitem(sys.modules, f"backends.{name}", fake)
            for name in REPORTS:
                stub = ModuleType(name)
                stub.make_report = lambda folder: ("", folder / "report.html")  # type: ignore[attr-defined]
                patch.setitem(sys.modules, name, stub)
            patch.setattr(subprocess, "Popen", partial(started.open, subprocess.Popen))
            try:
                status = importlib.import_module(f"studies.{script}").main(words)
            except SystemExit as ended:
                status = int(ended.code or 0)
        seen = Seen(status, started.processes, started.most, made, out, said.getvalue())
        if execute and status:
            raise AssertionError("\n".join(path.read_text() for path in out.glob("cells/*/failed.txt")) or status)
        return seen


class FlagTests:
    """Which tests are of which flags of a script, by its settings' field: so that none is without one."""

    def __init__(self, flags: Mapping[str, str]) -> None:
        self.flags, self.tests = flags, dict[str, set[str]]()

    def of(self, *fields: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Says of which flags a test is; where of several, its parameter `flag` says which one it is of now."""

        def noted(test: Callable[..., None]) -> Callable[..., None]:
            for field in fields:
                self.tests.setdefault(field, set()).add(test.__name__)
            return test

        return noted

    def check_given(self, given: set[str], request: pytest.FixtureRequest) -> None:
        """The flags that a test is of were on a command line of its own."""
        node: Any = request.node
        parameters = node.callspec.params if hasattr(node, "callspec") else {}
        fields = [field for field, tests in self.tests.items() if node.originalname in tests]
        for field in [parameters["flag"]] if "flag" in parameters else fields:
            assert self.flags[field] in given, f"the test of {field} never gave {self.flags[field]}"


class _Started:
    """The processes of one command: run here in turn, and counted as they come and go."""

    def __init__(
        self,
        fakes: Mapping[str, FakeBackend],
        execute: bool,
        barrier: threading.Barrier,
        process: Callable[..., Any] | None,
    ) -> None:
        self.fakes, self.execute, self.barrier = fakes, execute, barrier
        self.process = process or partial(InProcess, self._run)
        self.processes: list[Any] = []
        self.open_now = self.most = 0
        self.turn, self.count = threading.Lock(), threading.Lock()

    def open(self, popen: Callable[..., Any], command: Any, **options: Any) -> Any:
        if not (isinstance(command, list) and command[:2] == [sys.executable, "-m"]):
            return popen(command, **options)
        process = self.process(command, **options)
        with self.count:
            self.processes.append(process)
            self.open_now += 1
            self.most = max(self.most, self.open_now)
        return process

    def _run(self, arguments: Sequence[str], process: InProcess) -> str:
        self.barrier.wait(timeout=10)
        said = io.StringIO()
        if self.execute:
            with self.turn, warnings.catch_warnings(), contextlib.redirect_stdout(_Heard(said, self.fakes)):
                argv, sys.argv = sys.argv, [process.module, *arguments]
                try:
                    warnings.simplefilter("ignore", RuntimeWarning)  # of modules that are run and imported
                    runpy.run_module(process.module, run_name="__main__", alter_sys=True)
                except SystemExit as ended:
                    process.status = int(ended.code or 0)
                finally:
                    sys.argv = argv
        with self.count:
            self.open_now -= 1
        return said.getvalue()


class _Heard(io.TextIOBase):
    """Standard output of a cell, whose reports of its stages go among the fakes' calls too."""

    def __init__(self, said: io.StringIO, fakes: Mapping[str, FakeBackend]) -> None:
        self.said, self.fakes = said, fakes

    def write(self, text: str) -> int:
        with contextlib.suppress(json.JSONDecodeError):
            news = json.loads(text)
            if isinstance(news, dict):
                for fake in self.fakes.values():
                    fake.calls.append(Reported(news["stage"], news["cell"] or ""))
        return self.said.write(text)


def parts_of(seen: Seen) -> dict[str, Any]:
    """All that reached the backend of a study's one cell, and its process, in parts that flags change one by one."""
    trained, evaluation, (process,) = seen.trained, seen.evaluation, seen.processes
    respaced, *whole = seen.chains()
    parts = {
        "network": (trained.settings, evaluation.network.settings),
        "initial weights": trained.initial,
        "evaluated weights": evaluation.network.weights,
        "process": (trained.process, evaluation.made.process, [made.process for made in seen.fake.of(MadeField)]),
        "objective": trained.objective,
        "recipe": trained.recipe,
        "execution": sorted(map(repr, seen.executions())) if evaluation.fields else trained.execution,
        "learned schedule": trained.learned,
        "steps": len(trained.steps),
        "training examples": [draws.x_0 for draws in trained.steps],
        "training noise": [draws.epsilon for draws in trained.steps],
        "training t": [draws.t for draws in trained.steps],
        "training weight": [draws.weight for draws in trained.steps],
        "bound": evaluation.bound,
        "floors": evaluation.floors,
        "flow": [(field.x, field.log_snr, field.probes) for field in evaluation.fields[:1]],
        "sampler": respaced.sampler,
        "respaced chain": respaced.process,
        "respaced noise": (respaced.x_T, respaced.noise),
        "whole sampler": [chain.sampler for chain in whole],
        "whole chain": [chain.process for chain in whole],
        "whole noise": [(chain.x_T, chain.noise) for chain in whole],
        "environment": process.env,
        "program": process.module,
    }
    return {name: comparable(part) for name, part in parts.items()}


def comparable(value: Any) -> Any:
    """The same value as tuples, which are equal where every number in them is."""
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if dataclasses.is_dataclass(value):
        return type(value).__name__, *(comparable(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, partial):
        return value.func, tuple(sorted(value.keywords.items()))
    if isinstance(value, Mapping):
        return tuple((key, comparable(value[key])) for key in sorted(value))
    if isinstance(value, (list, tuple)):
        return tuple(comparable(part) for part in value)
    return value


def changed(before: Seen, after: Seen) -> set[str]:
    """The parts that are not the same in both."""
    one, other = parts_of(before), parts_of(after)
    return {name for name in one if one[name] != other[name]}
