"""How few network evaluations give the variational bound with the error bar of one full sweep over t?

Tabulates the terms of trained models (a finished run's, or two small ones trained first), measures every estimator on
the table at several numbers of test examples, and the harness's own with fresh evaluations of the network too.

python studies/compare_estimators.py --run runs/objectives
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.estimators.settings import parse_estimator_settings
from studies.estimators.study import run_and_report
from studies.plan.command import guarded


def main(argv: list[str]) -> int:
    return guarded(lambda: run_and_report(parse_estimator_settings(argv, description=__doc__ or ""), argv))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
