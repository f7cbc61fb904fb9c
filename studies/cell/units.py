"""A cell's rows in the units of the file: what was measured on scaled data, said of the data as they came.

A density depends on its units: with x = (y - centre) / factor, -log p(y) is -log p(x) plus the sum of log factor. Bits
per dim of the two differ by the mean of log2 factor, whatever the model, so that differences between models stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from studies.datasets import Dataset
from studies.store.files import Row

LOG_DENSITIES = frozenset(
    {
        "bound",
        "bound_decoder",
        "bound_floor",
        "distortion",
        "entropy",
        "flow_bound",
        "flow_decoder",
        "flow_density",
        "train_posterior_kl",
    }
)
"""Metrics in bits/dim that are a log density of the data. The other terms of a bound are KLs, which no unit moves."""
BY_T = frozenset({"bound_at_t", "bound_floor_at_t"})
"""Those whose row at t = 1, the decoder term, is one."""
UNIT = "data units"
"""Of distances, in a row; scaled data have units of their own."""


def in_units_of_file(rows: Sequence[Row], dataset: Dataset) -> list[Row]:
    """The rows of a model of `dataset`, which may be scaled, with likelihoods in the units that its file has."""
    if dataset.scale is None:
        return list(rows)
    return [_in_units(row, dataset.scale_bits) for row in rows]


def _in_units(row: Row, more_bits: float) -> Row:
    if row["metric"] in LOG_DENSITIES or (row["metric"] in BY_T and row["t"] == 1):
        return {**row, "value": row["value"] + more_bits}
    return {**row, "unit": "units of the scaled data"} if row["unit"] == UNIT else row
