"""Which noise schedule, and how many steps, under each objective?

Linear and cosine chains of T from 50 to 4000, trained with the epsilon MSE and with the posterior KL; and with the KL,
which is a bound whatever the schedule, one learned with the network.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.plan.command import guarded
from studies.plan.grid import grid
from studies.plan.schedules import is_learned
from studies.plan.settings import StudySettings, parse_settings
from studies.store.cells import Cell
from studies.study import run_and_report

LENGTHS = (50, 250, 1000, 4000)

BASE = {
    "out": Path("runs/schedules"),
    "schedules": tuple(f"{name}:{length}" for name in ("linear-scaled", "cosine", "learned") for length in LENGTHS),
    "sample_steps": 50,
}

SMOKE = {
    "out": Path("runs/smoke-schedules"),
    "dataset": "mixture",
    "schedules": ("linear-scaled:100", "cosine:100", "cosine:50", "learned:100"),
    "seeds": 1,
}
"""Each kind, and one of two lengths, on points, whose network is small."""


def schedule_cells(settings: StudySettings) -> list[Cell]:
    """The grid, without the epsilon MSE on learned schedules, which it cannot train, where the KL stands beside it."""
    learned = [schedule for schedule in settings.schedules if is_learned(schedule)]
    if not learned or "posterior_kl" not in settings.objectives:
        return grid(settings)
    named = tuple(schedule for schedule in settings.schedules if schedule not in learned)
    cells = grid(settings.replace(schedules=named)) if named else []
    cells += grid(settings.replace(schedules=tuple(learned), objectives=("posterior_kl",)))
    return sorted(cells, key=lambda cell: cell.seed)


def main(argv: list[str]) -> int:
    def run() -> int:
        settings = parse_settings(argv, description=__doc__ or "", base=BASE, smoke=SMOKE)
        return run_and_report("compare_schedules", settings, schedule_cells, argv)

    return guarded(run)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
