"""Which cells train together as one program: those that differ in objective and seed alone, where that is faster.

- On a GPU small networks wait for launches, and a group needs as many as one network does. Larger ones than
  GPU_PARAMETERS fill the card by themselves.
- On a CPU cells of one thread each fill the cores. There a group saves what each small operation costs beside its
  arithmetic. Measured on one thread, 4 to 8 perceptrons train 1.1 to 1.4 times as fast as one after another in every
  framework, and in PyTorch 4 to 8 U-Nets of 0.04 M weights 1.4 to 1.7 times; but 2 members gain nothing, and 8 U-Nets
  of 0.16 M 1.06 times. On JAX a CPU's grouped convolutions make a group tens of times slower.

`studies.throughput.together` measures them.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends import capabilities
from backends.networks import MLPSettings, NetworkSettings, parameter_count
from core.variances import as_variance
from studies.plan.schedules import is_learned
from studies.plan.settings import StudySettings
from studies.store.cells import FACTORS, Cell

Group = tuple[Cell, ...]

GPU_PARAMETERS = 4_000_000
CPU_PARAMETERS, CPU_LEAST = 100_000, 4
"""The largest U-Net that trains in a group on a CPU, and the smallest group there."""
LARGEST = 16


def groups_of(
    cells: Sequence[Cell], settings: StudySettings, shape: tuple[int, ...], jobs: int, on_gpu: bool
) -> list[Group]:
    """The cells as groups, one where a cell trains alone, in the order of their first cells.

    Cells that could share a program are spread evenly over the `jobs` that run side by side, at most LARGEST to one.
    """
    together: dict[object, list[Cell]] = {}
    for cell in cells:
        network = settings.network(shape, as_variance(cell.variance).is_learned)
        key = _program(cell) if _wanted(cell, settings, network, on_gpu) else cell
        together.setdefault(key, []).append(cell)
    groups: list[Group] = []
    for members in together.values():
        size = min(LARGEST, -(-len(members) // jobs))
        if settings.together == "auto" and not on_gpu and size < CPU_LEAST:
            size = 1
        groups += [tuple(members[i : i + size]) for i in range(0, len(members), size)]
    place = {cell: i for i, cell in enumerate(cells)}
    return sorted(groups, key=lambda group: place[group[0]])


def _program(cell: Cell) -> tuple[object, ...]:
    """What cells that train together have in common."""
    return tuple(getattr(cell, factor.name) for factor in FACTORS if not factor.shares_program)


def _wanted(cell: Cell, settings: StudySettings, network: NetworkSettings, on_gpu: bool) -> bool:
    if settings.together == "off" or is_learned(cell.schedule):
        return False
    if not capabilities(cell.backend).trains_together(network):
        return False
    return settings.together == "on" or pays(cell.backend, network, on_gpu)


def pays(backend: str, network: NetworkSettings, on_gpu: bool) -> bool:
    """Whether a group, large enough, is faster than one cell after another, by the rules above."""
    if on_gpu:
        return parameter_count(network) <= GPU_PARAMETERS
    small = isinstance(network, MLPSettings) or parameter_count(network) <= CPU_PARAMETERS
    return small and capabilities(backend).cpu_groups_pay(network)
