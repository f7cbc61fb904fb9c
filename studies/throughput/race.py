"""The race: one worker a contestant, driven in turn so that one runs at a time, and rounds interleave."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from backends.checkpoints import described_network
from backends.interface import Execution
from studies.plan.machine import KEEP_MEMORY, cell_environment
from studies.throughput.cases import Case, Facts, Time
from studies.throughput.contestant import Contestant
from studies.throughput.workloads import Workload

MODULE = "studies.throughput.worker"


class WorkerEnded(Exception):
    """A worker said why it cannot go on, or ended without a word."""


class Worker:
    """The parent's end of a worker."""

    def __init__(self, contestant: Contestant, workload: Workload, device: str, threads: int, log: Path) -> None:
        self.begun = time.perf_counter()
        self._log: TextIO = open(log, "w")  # noqa: SIM115  (closed with the worker)
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, contestant.name, *encoded(workload, contestant.execution(device))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment(contestant, device, threads),
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise WorkerEnded(f"ended without a word; see {self._log.name}") from None
        return self.listen()

    def listen(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerEnded(f"ended without a word; see {self._log.name}")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise WorkerEnded(said["error"])
        return said

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def encoded(workload: Workload, execution: Execution) -> tuple[str, str]:
    described = {**asdict(workload), "network": described_network(workload.network)}
    return json.dumps(described), json.dumps(asdict(execution))


def environment(contestant: Contestant, device: str, threads: int) -> dict[str, str]:
    """The environment variables of a worker: those of a study's cells, with which no worker takes a whole GPU.

    Peers do without what is set there for speed, because their users do not set it either. Threads spin for a moment
    between operations, as they do by themselves. Told to sleep at once (OMP_WAIT_POLICY) they make a step on two
    threads a third longer and spare nobody: the other workers wait for a line.
    """
    sharing = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    tuned = cell_environment(threads)
    if contestant.is_peer:
        tuned = {name: value for name, value in tuned.items() if name not in KEEP_MEMORY or name in os.environ}
    return {**tuned, **sharing, **hidden}


def race(
    contestants: Sequence[Contestant],
    workload: Workload,
    *,
    device: str,
    rounds: int,
    block_seconds: float,
    threads: int,
    logs: Path,
    clock: str = "wall",
    say: Callable[[str], None] = lambda line: None,
) -> Case:
    """Starts all contestants, warms them up, and times each block once a round; the order turns by one a round.

    A contestant that fails is left out from there on, and its facts say why.
    """
    logs.mkdir(parents=True, exist_ok=True)
    case = Case(
        workload.name,
        workload.batch,
        workload.evaluation_batch,
        {contestant: Facts() for contestant in contestants},
        [],
    )
    workers: dict[Contestant, Worker] = {}
    counts: dict[Contestant, dict[str, int]] = {}

    def attempt(contestant: Contestant, body: Callable[[], None]) -> None:
        try:
            body()
        except WorkerEnded as ended:
            case.facts[contestant].error = str(ended)
            workers.pop(contestant).close()

    def warm_up(contestant: Contestant) -> None:
        counts[contestant] = _warmed_up(workers[contestant], case.facts[contestant], block_seconds)

    def run_round(contestant: Contestant, number: int) -> None:
        for block, count in counts[contestant].items():
            said = workers[contestant].ask(block=block, count=count, clock=clock)
            case.times.append(Time(contestant, block, number, said["seconds"], said["units"]))

    def ask_once(contestant: Contestant) -> None:
        case.facts[contestant].memory_bytes = workers[contestant].ask(memory=True)["bytes"]
        if "train" in counts[contestant]:
            case.facts[contestant].account = workers[contestant].ask(account="train")["seconds"]

    try:
        for contestant in contestants:
            say(f"  {contestant.label} starts")
            log = logs / f"{workload.name}-{contestant.label.replace(', ', '-')}.txt"
            workers[contestant] = Worker(contestant, workload, device, threads, log)
            attempt(contestant, partial(warm_up, contestant))
        for number in range(rounds):
            in_turn = list(workers)
            turn = number % max(1, len(in_turn))
            for contestant in in_turn[turn:] + in_turn[:turn]:
                attempt(contestant, partial(run_round, contestant, number))
            say(f"  round {number + 1} of {rounds}")
        for contestant in list(workers):
            attempt(contestant, partial(ask_once, contestant))
    finally:
        for worker in workers.values():
            worker.close()
    return case


def _warmed_up(worker: Worker, facts: Facts, block_seconds: float) -> dict[str, int]:
    """Waits until the worker is ready, runs each block twice, and says how many units fill a block."""
    ready = worker.listen()
    facts.startup_seconds = time.perf_counter() - worker.begun
    facts.parameters, facts.flops, facts.description = ready["parameters"], ready["flops"], ready["description"]
    counts = {}
    for block in ready["blocks"]:
        facts.first_seconds[block] = worker.ask(block=block, count=1)["seconds"]
        again = worker.ask(block=block, count=1)
        counts[block] = max(1, round(block_seconds * again["units"] / again["seconds"]))
    return counts
