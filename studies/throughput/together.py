"""How much faster networks train as one program than one after another, interleaved in one process.

`python -m studies.throughput.together torch` prints a table; OMP_NUM_THREADS says how many threads. What a step
costs includes the making of its draws, as in a study.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from backends import BACKENDS, capabilities, load_backend
from backends.interface import Draws, Execution
from backends.networks import MLPSettings, NetworkSettings, UNetSettings, initial_weights, parameter_count
from backends.recipe import TrainingRecipe
from core.reverse import reverse_process
from core.schedules import linear
from studies.cell.draws import training_draws

OBJECTIVES = ("epsilon_mse", "posterior_kl")
"""In turn, as in the default study."""
NETWORKS: dict[str, NetworkSettings] = {
    "mlp": MLPSettings((2,)),
    "unet-small": UNetSettings((8, 8, 1), widths=(8, 16)),
    "unet": UNetSettings((8, 8, 1), widths=(16, 32)),
}
"""Those of a study of points, of the smoke preset and of the default study of digits."""


@dataclass(frozen=True)
class Together:
    """Seconds of one step of every member, one after another and as one program: medians over rounds.

    `ratio` is the median over rounds of the first through the second, between its quartiles `low` and `high`.
    """

    members: int
    parameters: int
    alone_seconds: float
    together_seconds: float
    ratio: float
    low: float
    high: float


def measure_together(
    backend_name: str,
    network: NetworkSettings,
    members: int,
    *,
    batch: int = 64,
    execution: Execution | None = None,
    rounds: int = 9,
    block_seconds: float = 0.5,
    clock: Callable[[], float] = time.perf_counter,
) -> Together:
    """Times `rounds` blocks of steps of about `block_seconds` each way, in turn.

    `clock` may be `time.process_time` for one thread on a busy machine. ValueError where the backend cannot train
    these networks together.
    """
    backend, execution = load_backend(backend_name), execution or Execution()
    levels = None if isinstance(network, MLPSettings) else 17
    process = reverse_process(linear(1000), levels=levels)
    data = np.random.default_rng(0).uniform(-1, 1, (16 * batch, *network.shape))
    if levels is not None:
        data = np.rint((data + 1) * (levels - 1) / 2) * (2 / (levels - 1)) - 1
    objectives = [OBJECTIVES[member % len(OBJECTIVES)] for member in range(members)]
    starts, recipe = [initial_weights(network, member) for member in range(members)], TrainingRecipe()
    group = backend.make_group_trainer(network, starts, process, objectives, recipe, execution)
    singles = [
        backend.place(backend.make_network(network, start, execution), process, execution).trainer(objective, recipe)
        for start, objective in zip(starts, objectives, strict=True)
    ]
    steps = count(1)

    def draws() -> list[Draws]:
        step = next(steps)
        return [training_draws(data, member, step, batch, process.num_steps) for member in range(members)]

    def alone(times: int) -> None:
        for _ in range(times):
            handles = [single.step(own_draws) for single, own_draws in zip(singles, draws(), strict=True)]
        singles[-1].losses(handles[-1])

    def together(times: int) -> None:
        for _ in range(times):
            handle = group.step(draws())
        group.losses(handle)

    ways = (alone, together)
    for way in ways:
        way(2)  # compilation, and the first touch of memory
    lengths = [max(1, round(block_seconds / _seconds(way, 1, clock))) for way in ways]
    timed = [[_seconds(way, times, clock) for way, times in zip(ways, lengths, strict=True)] for _ in range(rounds)]
    seconds: NDArray[np.float64] = np.array(timed)
    low, ratio, high = np.quantile(seconds[:, 0] / seconds[:, 1], (0.25, 0.5, 0.75))
    medians = np.median(seconds, axis=0)
    return Together(members, parameter_count(network), *map(float, (*medians, ratio, low, high)))


def _seconds(way: Callable[[int], None], times: int, clock: Callable[[], float]) -> float:
    """Seconds a step."""
    begun = clock()
    way(times)
    return (clock() - begun) / times


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", choices=tuple(BACKENDS))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--members", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cpu-clock", action="store_true", help="processor seconds, for one thread on a busy machine")
    asked = parser.parse_args(argv)
    clock = time.process_time if asked.cpu_clock else time.perf_counter
    print("network      weights  members  alone ms  together ms  ratio (quartiles)")
    for name in asked.networks:
        if not capabilities(asked.backend).trains_together(NETWORKS[name]):
            print(f"{name:<12} not trained together by this backend")
            continue
        for members in asked.members:
            execution = Execution(compile=asked.compile)
            timed = measure_together(
                asked.backend, NETWORKS[name], members, batch=asked.batch, execution=execution,
                rounds=asked.rounds, clock=clock,
            )  # fmt: skip
            print(
                f"{name:<12} {timed.parameters:7d}  {members:7d}  {1e3 * timed.alone_seconds:8.2f}  "
                f"{1e3 * timed.together_seconds:11.2f}  {timed.ratio:.2f} ({timed.low:.2f}-{timed.high:.2f})",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
