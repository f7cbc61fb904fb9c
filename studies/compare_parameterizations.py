"""Table 2 of Ho et al. (2020), extended: what to predict, which reverse variance, and which loss.

Each prediction is trained with the KL and a learned diagonal variance, the KL and a fixed variance, the plain MSE of
its own target, and the hybrid loss with a learned range. A cell that diverges is a result, as in the paper's two
blanks, and is reported.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, so that it runs without being installed

from studies.plan.command import guarded
from studies.plan.grid import check_cells, grid
from studies.plan.settings import StudySettings, parse_settings
from studies.store.cells import Cell
from studies.study import run_and_report

COLUMNS = (
    ("posterior_kl", "learned_diagonal"),
    ("posterior_kl", "beta_tilde"),
    ("target_mse", "beta_tilde"),
    ("hybrid", "learned_range"),
)
"""The loss and the reverse variance of each column of the table; the first three are Ho et al.'s."""

BASE = {
    "out": Path("runs/parameterizations"),
    "predictions": ("mean", "epsilon", "x_0", "v"),
    "objectives": ("posterior_kl", "target_mse", "hybrid"),
    "variances": ("learned_diagonal", "beta_tilde", "learned_range"),
}

SMOKE = {
    "out": Path("runs/smoke-parameterizations"),
    "dataset": "mixture",
    "predictions": ("epsilon", "v"),
    "objectives": ("posterior_kl", "target_mse"),
    "variances": ("learned_diagonal", "beta_tilde"),
    "seeds": 1,
}
"""The paper's three columns of two predictions, on points, whose network is small."""


def table_cells(settings: StudySettings) -> list[Cell]:
    """The cells of the table, among the objectives and variances that were asked for."""
    columns = [
        (objective, variance)
        for objective, variance in COLUMNS
        if objective in settings.objectives and variance in settings.variances
    ]
    cells = [
        cell
        for objective, variance in columns
        for cell in grid(settings.replace(objectives=(objective,), variances=(variance,)))
    ]
    if not cells:
        raise ValueError(
            f"no column of the table has one of the objectives {', '.join(settings.objectives)} with one of the "
            f"variances {', '.join(settings.variances)}; the columns are {', '.join(' with '.join(c) for c in COLUMNS)}"
        )
    check_cells(cells, settings)
    return sorted(cells, key=lambda cell: cell.seed)


def main(argv: list[str]) -> int:
    def run() -> int:
        settings = parse_settings(argv, description=__doc__ or "", base=BASE, smoke=SMOKE)
        return run_and_report("compare_parameterizations", settings, table_cells, argv)

    return guarded(run)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
