"""Makes the report of a run again from its folder, or one report that compares several runs.

python studies/report.py runs/objectives
python studies/report.py runs/objectives runs/cosine --out runs/comparison
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.plan.command import exit_with_one_line


class _Parser(argparse.ArgumentParser):
    """Whose errors are one line, as those of the other scripts are."""

    def error(self, message: str) -> NoReturn:
        exit_with_one_line(ValueError(message))


def main(argv: list[str]) -> int:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder; several are compared")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/comparison"), help="folder of a comparison (%(default)s)"
    )
    chosen = parser.parse_args(argv)
    try:
        from studies.reporting.page import make_report, write_comparison

        if len(chosen.runs) == 1:
            closing_table, report = make_report(chosen.runs[0])
            print(closing_table)
        else:
            report = write_comparison(chosen.runs, chosen.out)
    except (ValueError, ImportError, OSError) as error:
        exit_with_one_line(error)
    print(f"report: {report}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
