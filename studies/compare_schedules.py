"""Which noise schedule, and how many steps, under each objective?

Linear and cosine chains of T from 50 to 4000, trained with the epsilon MSE and with the posterior KL.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.harness.cells import grid
from studies.harness.settings import guarded, parse_settings
from studies.harness.study import run_and_report

LENGTHS = (50, 250, 1000, 4000)

BASE = {
    "out": Path("runs/schedules"),
    "schedules": tuple(f"{name}:{length}" for name in ("linear-scaled", "cosine") for length in LENGTHS),
    "sample_steps": 50,
}


def main(argv: list[str]) -> int:
    def run() -> int:
        settings = parse_settings(argv, description=__doc__ or "", base=BASE)
        return run_and_report("compare_schedules", settings, grid, argv)

    return guarded(run)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
