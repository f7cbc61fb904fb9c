"""The vocabulary of metrics: what real rows hold lies in its ranges, and nothing else than it is written."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from studies.cell.measured import measured
from studies.metrics.registry import METRICS
from studies.metrics.vocabulary import ESTIMATOR_VOCABULARY, VOCABULARY, outside_range

STUDIES = Path(__file__).resolve().parents[1]


def values_of_cells() -> list[tuple[str, float]]:
    """Metrics with their values as cells of three kinds of data, and of both frameworks, have written them."""
    pairs: list[tuple[str, float]] = []
    for path in sorted((STUDIES / "custody" / "pinned").glob("*.csv")):
        rows = pd.read_csv(path)
        pairs += zip(rows["metric"], rows["value"], strict=True)
    golden = pd.read_csv(STUDIES / "golden" / "golden.csv").query("part == 'value'")
    for backend in ("torch", "keras"):
        pairs += zip(golden["metric"], golden[backend], strict=True)
    return pairs


def test_rows_lie_in_their_ranges():
    pairs = values_of_cells()
    assert len({metric for metric, _ in pairs}) >= 60
    assert [(metric, value) for metric, value in pairs if outside_range(metric, value)] == []


@pytest.mark.parametrize(
    ("metric", "inside", "outside"),
    [
        ("train_seconds", [0.0, 1e9], [-1e-9]),
        ("precision", [0.0, 1.0], [-0.01, 1.01]),
        ("precision_floor", [0.5], [2.0]),
        ("memorisation_p", [0.005], [-1.0]),
        ("diverged", [1.0], [0.0]),
        ("mmd2_1", [-1.0, 1.0], []),
        ("flow_minus_bound", [-1.0, 1.0], []),
    ],
)
def test_the_ends_of_ranges(metric, inside, outside):
    """Both belong to them; what is not a number lies in none, and says so itself."""
    assert not [value for value in [*inside, math.nan] if outside_range(metric, value)]
    assert all(outside_range(metric, value) for value in outside)


def test_ideals_lie_in_the_ranges_of_their_metrics():
    for metric in METRICS.values():
        assert not outside_range(metric.name, metric.ideal)
        if metric.best_inside:
            assert metric.range is not None
            assert metric.range[0] < metric.ideal < metric.range[1]
            assert VOCABULARY[metric.name].direction is None
    assert {metric.name for metric in METRICS.values() if metric.best_inside} == {"memorisation", "density"}
    assert {name for name, about in VOCABULARY.items() if about.is_p_value} == {"c2st_p", "memorisation_p"}


def test_a_row_takes_its_unit_from_the_vocabulary():
    assert measured("bound", 3, standard_error=0.5) == {
        "metric": "bound", "value": 3.0, "unit": "bits/dim", "standard_error": 0.5,
    }  # fmt: skip
    assert measured("rmse", 3, "data units")["unit"] == "data units"
    assert measured("coverage", 0.95, known=ESTIMATOR_VOCABULARY)["unit"] == "of intervals"


@pytest.mark.parametrize(
    ("metric", "unit", "message"),
    [
        ("bound_of_something", None, "the vocabulary has no metric 'bound_of_something'; add its Quantity"),
        ("bound", "nats", "the vocabulary has bound in bits/dim, got 'nats'"),
        ("rmse", None, "the unit of rmse depends on the data; give the one it is measured in"),
        ("sweep_error", None, "the vocabulary has no metric 'sweep_error'"),
    ],
)
def test_a_row_that_no_reader_knows_is_not_written(metric, unit, message):
    with pytest.raises(ValueError, match=message):
        measured(metric, 1.0, unit)
