"""How few network evaluations do good samples take, by which sampler, under each objective?

Draws samples from the checkpoints of a finished run by ancestral sampling, DDIM and DPM-Solver++ in 10 to 1000 steps,
from the same noise, and scores them beside their floor.

python studies/compare_samplers.py --run runs/objectives
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.plan.command import guarded
from studies.samplers.settings import parse_sampler_settings
from studies.samplers.study import run_and_report, sampled_cells


def main(argv: list[str]) -> int:
    def run() -> int:
        settings = parse_sampler_settings(argv, description=__doc__ or "")
        return run_and_report(settings, sampled_cells(settings), argv)

    return guarded(run)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
