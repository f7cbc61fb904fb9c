"""What a training step consists of, and what stands between it and the ceiling: a table and a sentence of a race."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from studies.reporting.numbers import plain
from studies.throughput.cases import Case, Facts
from studies.throughput.contestant import REFERENCE, Contestant
from studies.throughput.operators import OUTSIDE
from studies.throughput.table import speeds

LEAST_SHARE = 0.02
"""Of a step, for an operator to have a row."""
COUNTED = ("convolution", "mm", "linear", "attention")
"""What the names of operators contain whose operations `backends.flops` counts."""


def table(case: Case) -> list[list[str]] | None:
    """Milliseconds and share of a step by operator, a column a contestant; None where none has an account."""
    accounts = {contestant.label: facts.account for contestant, facts in case.facts.items() if facts.account}
    if not accounts:
        return None
    largest: dict[str, float] = {}
    for account in accounts.values():
        for name, seconds in account.items():
            largest[name] = max(largest.get(name, 0.0), seconds / sum(account.values()))
    operators = set(largest) - {OUTSIDE}
    major = sorted((name for name in operators if largest[name] >= LEAST_SHARE), key=lambda name: -largest[name])
    rows = [(name, [name]) for name in major]
    rows += [("all others", sorted(operators - set(major))), ("outside operators", [OUTSIDE])]
    body = [[title, "", *(_cell(account, names) for account in accounts.values())] for title, names in rows]
    return [["operator", "", *accounts], *body]


def sentences(case: Case, dtype: str) -> Iterator[str]:
    """How fast the convolutions and products within a step of `REFERENCE` are, and how long all else takes."""
    ours = Contestant(REFERENCE, dtype)
    facts = case.facts.get(ours, Facts())
    ceiling = [speed.gflops for speed in speeds(case, "convolution") if speed.contestant.dtype == dtype]
    if not facts.account or not ceiling:
        return
    counted = _seconds(facts.account, [name for name in facts.account if any(part in name for part in COUNTED)])
    whole = sum(facts.account.values())
    rate = facts.flops["train"] / 1e9 / counted / ceiling[0]
    yield (
        f"convolutions and products of {ours.label} take {100 * counted / whole:.0f} % of a step and run "
        f"at {100 * rate:.0f} % of the ceiling; the other {plain(1e3 * (whole - counted), 3)} ms keep a step from it"
    )


def _seconds(account: Mapping[str, float], names: list[str]) -> float:
    return sum(account.get(name, 0.0) for name in names)


def _cell(account: Mapping[str, float], names: list[str]) -> str:
    seconds = _seconds(account, names)
    return f"{1e3 * seconds:.1f} ({100 * seconds / sum(account.values()):.0f} %)"
