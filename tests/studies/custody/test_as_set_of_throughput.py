"""As set, for compare_throughput: every flag reaches the workers, which here are only played.

A played worker notes how it was started and what it is asked, and says that a unit of any block takes a hundredth of a
second.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.studies.custody.command import Commands, FlagTests, Seen, words_of
from tests.studies.custody.entry import THROUGHPUT_FLAGS, parsed

FLAGS = FlagTests(THROUGHPUT_FLAGS)
UNIT_SECONDS = 0.01
PEERS = ("diffusers", "denoising_diffusion_pytorch")
SMALL = {
    "--workloads": "digits",
    "--contestants": "torch",
    "--rounds": "2",
    "--block-seconds": "0.1",
    "--device": "cpu",
    "--no-growth": "",
}


class Worker:
    """A worker as its parent sees it, with `requests` as they came; it is its own standard input and output."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self.env, (self.name, workload, execution) = options["env"], command[3:]
        self.workload, self.execution = json.loads(workload), json.loads(execution)
        self.requests: list[dict[str, Any]] = []
        ready = {"blocks": ["train", "sample"], "flops": {}, "parameters": 1, "description": {}}
        self.answers: list[dict[str, Any]] = [ready]
        self.stdin = self.stdout = self

    def write(self, text: str) -> None:
        if not text.strip():
            return
        request = json.loads(text)
        self.requests.append(request)
        if "block" in request:
            self.answers.append({"seconds": UNIT_SECONDS * request["count"], "units": request["count"]})
        else:
            self.answers.append({"bytes": 1, "seconds": {}})

    def readline(self) -> str:
        return json.dumps(self.answers.pop(0)) + "\n"

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def wait(self, timeout: float) -> int:
        return 0


@pytest.fixture
def race(commands: Commands, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs a study in which every contestant is installed."""
    find = importlib.util.find_spec
    installed = ("torch", "keras", *PEERS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name in installed or find(name, *more))
    commands.given.clear()

    def run(changes: str = "") -> Seen:
        flags = dict(SMALL)
        if "--growth" in changes:
            del flags["--no-growth"]
        return commands.run("compare_throughput", words_of(flags, changes), changes, process=Worker)

    yield run
    FLAGS.check_given(commands.given, request)


def test_every_flag_has_a_test():
    assert FLAGS.tests.keys() == THROUGHPUT_FLAGS.keys()


def timed(worker: Worker) -> list[dict[str, Any]]:
    """What it was asked to time after its blocks were warmed up, twice each."""
    return [request for request in worker.requests if "block" in request][4:]


def test_the_plain_race(race):
    """Two rounds of both blocks, as many units as fill a tenth of a second, and the ceilings beside the contestant."""
    torch, ceilings = race().processes
    assert (torch.name, ceilings.name) == ("torch", "ceilings")
    for worker in (torch, ceilings):
        assert worker.execution == {"device": "cpu", "dtype": "float32", "compile": False}
        assert worker.workload["name"] == "digits"
        assert timed(worker) == 2 * [{"block": b, "count": 10, "clock": "wall"} for b in ("train", "sample")]


@FLAGS.of("preset")
def test_the_smoke_preset(race, commands):
    """A small network, three rounds, no growth; its numbers stand in `test_defaults`."""
    seen = commands.run(
        "compare_throughput", ["--preset", "smoke", "--device", "cpu"], "--preset smoke", process=Worker
    )
    assert {worker.workload["name"] for worker in seen.processes} == {"digits"}
    for worker in seen.processes:
        assert '"widths": [8, 16]' in worker.workload["network"]
        assert timed(worker) == 3 * [{"block": b, "count": 20, "clock": "wall"} for b in ("train", "sample")]


@FLAGS.of("out")
def test_out(race, commands):
    out = commands.folder / "elsewhere"
    race(f"--out {out}")
    assert {path.name for path in out.iterdir()} == {"cases", "environment.json", "logs", "settings.json"}


@FLAGS.of("run")
def test_the_network_of_a_run(race, commands):
    """Is raced too, with its own batches."""
    finished = commands.study(execute=False)
    seen = race(f"--run {finished.out}")
    of_run = [worker.workload for worker in seen.processes if worker.workload["name"] == "run"]
    assert len(of_run) == 2
    for workload in of_run:
        assert (workload["batch"], workload["evaluation_batch"]) == (5, 256)
        assert '"width": 4' in workload["network"]


@FLAGS.of("workloads")
def test_workloads(race):
    seen = race("--workloads images digits")
    assert [worker.workload["name"] for worker in seen.processes] == ["images", "images", "digits", "digits"]


@FLAGS.of("widths")
def test_widths(race):
    for worker in race("--widths 8 24").processes:
        assert '"widths": [8, 24]' in worker.workload["network"]


@FLAGS.of("contestants")
def test_contestants(race):
    names = [worker.name for worker in race("--contestants keras diffusers").processes]
    assert names == ["keras", "diffusers", "ceilings"]


@FLAGS.of("modes")
@pytest.mark.parametrize(("modes", "compiled"), [("compiled", [True, False]), ("both", [False, True, False])])
def test_modes(race, modes, compiled):
    """Of the contestant; the ceilings come last, and are not compiled."""
    assert [worker.execution["compile"] for worker in race(f"--modes {modes}").processes] == compiled


@FLAGS.of("dtypes")
def test_dtypes(race):
    """The ceilings too are of every precision."""
    dtypes = [worker.execution["dtype"] for worker in race("--dtypes bfloat16 float32").processes]
    assert dtypes == ["bfloat16", "float32"] * 2


@FLAGS.of("rounds")
def test_rounds(race):
    for worker in race("--rounds 3").processes:
        assert [request["block"] for request in timed(worker)] == ["train", "sample"] * 3


@FLAGS.of("block_seconds")
def test_block_seconds(race):
    for worker in race("--block-seconds 0.3").processes:
        assert {request["count"] for request in timed(worker)} == {30}


@FLAGS.of("clock")
def test_clock(race):
    for worker in race("--clock cpu").processes:
        assert {request["clock"] for request in timed(worker)} == {"cpu"}


@FLAGS.of("growth")
def test_growth(race):
    """By default; on the device and the threads of the race."""
    assert not [worker for worker in race("--no-growth").processes if worker.workload["name"] == "growth"]
    seen = race("--growth --threads 2")
    growing = [worker for worker in seen.processes if worker.workload["name"] == "growth"]
    assert growing
    assert {worker.execution["device"] for worker in growing} == {"cpu"}
    assert {worker.env["OMP_NUM_THREADS"] for worker in growing} == {"2"}
    assert (seen.out / "growth.csv").is_file()


@FLAGS.of("device")
def test_device(race):
    """cuda; on a CPU workers do not see a GPU."""
    seen = race("--device cuda")
    assert {worker.execution["device"] for worker in seen.processes} == {"cuda"}
    assert {worker.env.get("CUDA_VISIBLE_DEVICES") for worker in race().processes} == {""}


@FLAGS.of("threads")
def test_threads(race):
    assert {worker.env["OMP_NUM_THREADS"] for worker in race("--threads 3").processes} == {"3"}


@pytest.mark.parametrize(
    "words", ["--contestants torch torch", "--workloads digits digits", "--dtypes float32 float32"]
)
def test_a_value_given_twice_is_refused(words):
    with pytest.raises(ValueError, match=f"{words.split()[0]} gives {words.split()[1]} more than once"):
        parsed("compare_throughput", *words.split())
