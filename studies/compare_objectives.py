"""Which objective should train a Gaussian diffusion model, epsilon MSE or the posterior KL, and how sure are we?

Trains both in every installed framework on the same draws, measures test bound and samples, and writes a report.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.plan.command import guarded
from studies.plan.grid import grid
from studies.plan.settings import parse_settings
from studies.study import run_and_report


def main(argv: list[str]) -> int:
    def run() -> int:
        settings = parse_settings(argv, description=__doc__ or "")
        return run_and_report("compare_objectives", settings, grid, argv)

    return guarded(run)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
