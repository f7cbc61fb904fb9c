"""Hypothesis strategies for schedules and their steps, shared by all tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from core.predictions import PREDICTIONS
from core.schedules import (
    Schedule,
    constant,
    cosine,
    from_betas,
    from_log_snr,
    harmonic,
    linear,
    log_linear,
    quadratic,
    sigmoid,
)
from core.variances import VARIANCES

MAKERS = (linear, cosine, quadratic, sigmoid, constant, harmonic, log_linear)


@st.composite
def _named(draw: st.DrawFn, min_steps: int, max_steps: int) -> Schedule:
    return draw(st.sampled_from(MAKERS))(draw(st.integers(min_steps, max_steps)))


@st.composite
def _given_betas(draw: st.DrawFn, min_steps: int, max_steps: int) -> Schedule:
    """Betas of any size from 1e-6 to 0.9, in any order."""
    logs = draw(st.lists(st.floats(np.log(1e-6), np.log(0.9)), min_size=min_steps, max_size=max_steps))
    return from_betas(np.exp(logs))


@st.composite
def _given_log_snr(draw: st.DrawFn, min_steps: int, max_steps: int) -> Schedule:
    falls = draw(st.lists(st.floats(1e-3, 3), min_size=min_steps, max_size=max_steps))
    return from_log_snr(draw(st.floats(2, 12)) - np.cumsum(falls))


@st.composite
def _respaced(draw: st.DrawFn, min_steps: int, max_steps: int) -> Schedule:
    count = draw(st.integers(min_steps, max_steps))
    return draw(st.sampled_from(MAKERS))(2 * max_steps).respaced(count)


def schedules(min_steps: int = 1, max_steps: int = 12) -> st.SearchStrategy[Schedule]:
    """Every maker, given betas and log SNRs, and respaced chains, of min_steps..max_steps steps."""
    kinds = (_named, _given_betas, _given_log_snr, _respaced)
    return st.one_of(*(kind(min_steps, max_steps) for kind in kinds))


def pairs(schedule: Schedule) -> st.SearchStrategy[tuple[int, int]]:
    """Steps (s, t) with 0 <= s < t <= T."""
    return st.integers(1, schedule.num_steps).flatmap(lambda t: st.tuples(st.integers(0, t - 1), st.just(t)))


predictions = st.sampled_from(sorted(PREDICTIONS))

FIXED_VARIANCES = [name for name, variance in VARIANCES.items() if not variance.is_learned]
LEARNED_VARIANCES = [name for name, variance in VARIANCES.items() if variance.is_learned]
