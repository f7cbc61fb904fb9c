"""The writer of measurements: a row of a metric that the vocabulary has, in the unit that it is known by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.metrics.vocabulary import VOCABULARY, Quantity
from studies.store.files import Row, row


def measured(
    metric: str, value: float, unit: str | None = None, *, known: Mapping[str, Quantity] = VOCABULARY, **more: Any
) -> Row:
    """One measurement; `unit` is given where it depends on the data, and `more` are other columns.

    ValueError for a metric or a unit that no reader knows: neither is written.
    """
    if metric not in known:
        raise ValueError(f"the vocabulary has no metric {metric!r}; add its Quantity to studies/metrics/vocabulary.py")
    own = known[metric].unit
    if own and unit not in (None, own):
        raise ValueError(f"the vocabulary has {metric} in {own}, got {unit!r}")
    if not (own or unit):
        raise ValueError(f"the unit of {metric} depends on the data; give the one it is measured in")
    return row(metric, value, own or str(unit), **more)
