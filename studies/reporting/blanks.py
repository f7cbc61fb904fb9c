"""What a run could not measure, in words: a blank of its tables stands for a metric that the points do not define."""

from __future__ import annotations

from collections.abc import Sequence

from studies.reporting.names import quantity, sampler_name
from studies.reporting.numbers import count, in_sentence, listed
from studies.store.reading import Blank, CellRecord

FLOOR = "_floor"


def blank_sentences(cells: Sequence[CellRecord]) -> list[str]:
    """A sentence for every reason: which metrics it left blank, of which chains and in how many cells."""
    blanks = [(cell.id, blank) for cell in cells for blank in cell.blanks]
    sentences = []
    for reason in dict.fromkeys(blank.reason for _, blank in blanks):
        these = [(cell, blank) for cell, blank in blanks if blank.reason == reason]
        where = [sampler_name(name) for name in dict.fromkeys(blank.sampler for _, blank in these) if name]
        where.append(count(len({cell for cell, _ in these}), "cell"))
        metrics = listed(_metrics([blank for _, blank in these]))
        sentences.append(f"Not computed ({'; '.join(where)}): {metrics}. The reason: {reason}.")
    return sentences


def blanks_of(cells: Sequence[CellRecord], metric: str) -> str:
    """Why a metric, or its floor, is blank in some of the cells; empty where it is in none."""
    reasons: dict[str, set[str]] = {}
    for cell in cells:
        for blank in cell.blanks:
            if blank.metric.removesuffix(FLOOR) == metric:
                reasons.setdefault(blank.reason, set()).add(cell.id)
    return " ".join(f"Not computed in {count(len(ids), 'cell')}: {reason}." for reason, ids in reasons.items())


def blank_metrics(cells: Sequence[CellRecord]) -> list[str]:
    """The metrics that some cell has no value or no floor of."""
    return list(dict.fromkeys(blank.metric.removesuffix(FLOOR) for cell in cells for blank in cell.blanks))


def _metrics(blanks: Sequence[Blank]) -> list[str]:
    """The titles of the metrics; a floor is named where the metric itself is not."""
    names = list(dict.fromkeys(blank.metric for blank in blanks))
    named = [name for name in names if not (name.endswith(FLOOR) and name.removesuffix(FLOOR) in names)]
    return [in_sentence(quantity(name).title) for name in named]
