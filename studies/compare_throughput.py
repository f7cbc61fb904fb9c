"""How fast are training, bounds and samples, against the machine's limits and against peers, and how soon is a verdict?

Races both backends and the peers that are installed, one process each, in turn; a few minutes on a CPU, and on a GPU
where there is one (KERAS_BACKEND=jax for Keras). With a finished run also the seconds to its verdict, ours and usual.

python studies/compare_throughput.py --run runs/objectives
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.plan.command import guarded
from studies.throughput.settings import parse_throughput_settings


def main(argv: list[str]) -> int:
    def run() -> int:
        settings = parse_throughput_settings(argv, description=__doc__ or "")
        from studies.throughput.study import run_and_report  # pandas, not for --help

        return run_and_report(settings, argv)

    return guarded(run)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
