"""Makes the report of a study again from its folder, or one report that compares several runs.

python studies/report.py runs/objectives
python studies/report.py runs/objectives runs/cosine --out runs/comparison
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.plan.command import exit_with_one_line
from studies.run.watch import DRAWING
from studies.store.folder import RunFolder

MakeReport = Callable[[Path], tuple[str, Path]]
"""Writes the report of a folder; returns the table to close with, and where the report is."""


def report_of_run(folder: Path) -> tuple[str, Path]:
    from studies.reporting.page import make_report

    return make_report(folder)


def report_of_samplers(folder: Path) -> tuple[str, Path]:
    from studies.samplers.report import make_report

    return make_report(folder)


def report_of_estimators(folder: Path) -> tuple[str, Path]:
    from studies.estimators.report import make_report

    return make_report(folder)


def report_of_throughput(folder: Path) -> tuple[str, Path]:
    from studies.throughput.report import make_report

    return make_report(folder)


REPORTS: dict[str, MakeReport] = {
    "compare_objectives": report_of_run,
    "compare_parameterizations": report_of_run,
    "compare_schedules": report_of_run,
    "sohl_dickstein_2015": report_of_run,
    "compare_samplers": report_of_samplers,
    "compare_estimators": report_of_estimators,
    "compare_throughput": report_of_throughput,
}
"""What makes the report of each study, by the name that its folder records."""


def report_of(folder: Path) -> MakeReport:
    """What makes the report of the folder's study. ValueError in one line where there is no such study."""
    study = RunFolder(folder).study()
    if study not in REPORTS:
        raise ValueError(f"{folder} is of an unknown study {study!r}; known: {', '.join(REPORTS)}")
    return REPORTS[study]


def check_comparison(folders: Sequence[Path], out: Path) -> None:
    """ValueError in one line for folders that are not of runs, and for an `out` that is a study's own folder."""
    for folder in folders:
        if report_of(folder) is not report_of_run:
            raise ValueError(
                f"runs of trained cells are compared, and {folder} is of {RunFolder(folder).study()}; "
                "make its report alone"
            )
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out is a folder, got the file {out}; give another")
    if RunFolder(out).settings.is_file():
        raise ValueError(f"--out is a folder of the comparison's own, got a study's folder {out}; give another")


class _Parser(argparse.ArgumentParser):
    """Whose errors are one line, as those of the other scripts are."""

    def error(self, message: str) -> NoReturn:
        exit_with_one_line(ValueError(message))


def main(argv: list[str]) -> int:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a study's folder; several runs are compared")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/comparison"), help="folder of a comparison (%(default)s)"
    )
    chosen = parser.parse_args(argv)
    try:
        if len(chosen.runs) == 1:
            (folder,) = chosen.runs
            make_report = report_of(folder)
            print(DRAWING, flush=True)
            closing_table, report = make_report(folder)
            print(closing_table)
        else:
            check_comparison(chosen.runs, chosen.out)
            from studies.reporting.page import write_comparison

            print(DRAWING, flush=True)
            report = write_comparison(chosen.runs, chosen.out)
    except (ValueError, ImportError, OSError) as error:
        exit_with_one_line(error)
    print(f"report: {report}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
