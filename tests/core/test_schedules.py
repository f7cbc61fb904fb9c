"""What a schedule promises besides its accuracy, which test_accuracy.py holds to mpmath."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.schedules import (
    SCHEDULES,
    constant,
    cosine,
    from_betas,
    from_log_snr,
    harmonic,
    linear,
    make_schedule,
    quadratic,
    sigmoid,
    spaced_steps,
)
from tests.strategies import MAKERS, schedules


@given(schedules(), st.data())
def test_respaced_keeps_alpha_bar_and_steps(schedule, data):
    """The respaced chain has the same alpha_bar at the steps it visits, bit for bit, and says which they are."""
    visited = sorted(data.draw(st.sets(st.integers(1, schedule.num_steps), min_size=1)))
    short = schedule.respaced(visited)
    at = [0, *visited]
    for name in ("alpha_bar", "one_minus_alpha_bar", "log_snr"):
        np.testing.assert_array_equal(getattr(short, name), getattr(schedule, name)[at])
    np.testing.assert_array_equal(short.steps, schedule.steps[at])
    # Exact betas are 1 - a quotient; forming that here costs 1e-16 / beta.
    quotient = 1 - short.alpha_bar[1:] / short.alpha_bar[:-1]
    np.testing.assert_allclose(short.beta[1:], quotient, rtol=1e-13, atol=4e-16)
    # A beta within half an ulp of 1 rounds to it: the share of signal left is then in alpha, never 0.
    assert np.all((short.beta[1:] > 0) & (short.beta[1:] <= 1) & (short.alpha[1:] > 0))


@given(schedules(min_steps=2), st.data())
def test_respacings_compose(schedule, data):
    """Respacing a respaced chain is respacing once, at the original's steps."""
    outer = sorted(data.draw(st.sets(st.integers(1, schedule.num_steps), min_size=1)))
    inner = sorted(data.draw(st.sets(st.integers(1, len(outer)), min_size=1)))
    twice = schedule.respaced(outer).respaced(inner)
    once = schedule.respaced([outer[i - 1] for i in inner])
    np.testing.assert_array_equal(twice.steps, once.steps)
    np.testing.assert_array_equal(twice.beta, once.beta)
    np.testing.assert_array_equal(twice.alpha_bar, once.alpha_bar)


@given(schedules())
def test_respaced_to_all_steps_changes_nothing(schedule):
    same = schedule.respaced(schedule.num_steps)
    np.testing.assert_array_equal(same.steps, schedule.steps)
    np.testing.assert_array_equal(same.alpha_bar, schedule.alpha_bar)
    np.testing.assert_allclose(same.beta, schedule.beta, rtol=1e-14)  # the accuracy of either


@given(st.integers(1, 300), st.data())
def test_even_spacing(num_steps, data):
    """n steps rise from 1 to T, both included, and no gap differs from another by more than 1."""
    count = data.draw(st.integers(1, num_steps))
    steps = linear(num_steps).respaced(count).steps[1:]
    assert len(steps) == count
    assert steps[-1] == num_steps
    if count > 1:
        assert steps[0] == 1
        gaps = np.diff(steps)
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


@given(schedules(), st.sampled_from(["quadratic", "logsnr"]), st.data())
def test_uneven_spacings(schedule, spacing, data):
    """N steps rise within 1..T and end at T; those by log SNR start at step 1; alpha_bar is kept at each."""
    count = data.draw(st.integers(1, schedule.num_steps))
    short = schedule.respaced(f"{spacing}{count}")
    visited = spaced_steps(schedule.num_steps, f"{spacing}{count}", schedule.log_snr)
    assert len(visited) == short.num_steps == count
    assert visited[0] >= 1
    assert visited[-1] == schedule.num_steps
    assert np.all(np.diff(visited) >= 1)
    if spacing == "logsnr" and count > 1:
        assert visited[0] == 1
    np.testing.assert_array_equal(short.alpha_bar[1:], schedule.alpha_bar[visited])
    np.testing.assert_array_equal(short.steps[1:], schedule.steps[visited])


@given(st.integers(1, 4000), st.data())
def test_quadratic_spacing(num_steps, data):
    """The i-th step is the nearest to T (i/N)^2; the ones before which that would repeat a step are i itself."""
    count = data.draw(st.integers(1, num_steps))
    i = np.arange(1, count + 1)
    exact = num_steps * (i / count) ** 2
    steps = spaced_steps(num_steps, f"quadratic{count}")
    moved = steps > exact + 0.5
    assert np.all(np.abs(steps - exact)[~moved] <= 0.5)
    assert np.all(np.diff(steps, prepend=0)[moved] == 1)  # moved no further than a repeat asks for


@given(st.sampled_from(MAKERS), st.integers(2, 600), st.data())
def test_spacing_by_log_snr_is_the_nearest_steps(make, num_steps, data):
    """Where no step falls by more than the distance asked for, each step visited is the nearest to its point."""
    schedule = make(num_steps)
    log_snr = schedule.log_snr[1:]
    count = data.draw(st.integers(2, num_steps))
    points = np.linspace(log_snr[0], log_snr[-1], count)
    visited = spaced_steps(num_steps, f"logsnr{count}", schedule.log_snr)
    if np.max(-np.diff(log_snr)) < points[0] - points[1]:
        away = np.abs(log_snr[visited - 1] - points)
        nearest = np.min(np.abs(log_snr[:, None] - points), axis=0)
        np.testing.assert_allclose(away, nearest, rtol=0, atol=1e-9)  # the order of two steps equally near is free


@given(st.integers(1, 200), st.data())
def test_spacing_by_log_snr_of_an_even_chain_is_even(num_steps, data):
    """Where log SNR is a straight line in t, even in the one is even in the other."""
    count = data.draw(st.integers(1, num_steps))
    schedule = from_log_snr(np.linspace(8.0, 8.0 - num_steps / 16, num_steps))
    steps = schedule.respaced(f"logsnr{count}").steps[1:]
    exact = np.linspace(1, num_steps, count) if count > 1 else [num_steps]
    assert np.max(np.abs(steps - exact)) <= 0.5 + 1e-9


def test_spacing_by_log_snr_spends_no_step_on_a_leap():
    """The cosine chain's last step falls by 6.9, several distances, which no step lies in: the others share them."""
    short = cosine(1000).respaced("logsnr10")
    falls = -np.diff(short.log_snr[1:])
    assert falls[-1] == pytest.approx(6.9, abs=0.1)
    assert falls[:-1].max() < 1.1 * falls[:-1].min()
    assert np.array_equal(linear(7).respaced("logsnr7").steps, np.arange(8))


@pytest.mark.parametrize(
    ("num_steps", "spacing", "expected"),
    [
        (1000, "ddim50", range(1, 1000, 20)),
        (10, "ddim10", range(1, 11)),
        (10, "ddim1", [1]),
        (9, "2,3", [1, 5, 6, 8, 9]),
        (10, "1,1", [1, 6]),
        (10, "1", [1]),
        (10, 1, [10]),
        (6, "3", [1, 3, 6]),  # 2.5 steps further is 2, the even one
        (6, 3, [1, 3, 6]),
        (8, "3", [1, 5, 8]),  # and 3.5 is 4
        (1000, "quadratic10", [10, 40, 90, 160, 250, 360, 490, 640, 810, 1000]),
        (4, "quadratic3", [1, 2, 4]),
        (4, "quadratic4", [1, 2, 3, 4]),
        (9, "quadratic1", [9]),
        (9, "logsnr1", [9]),
        (1000, "logsnr2", [1, 1000]),
        (1000, "logsnr10", [1, 6, 23, 74, 203, 411, 604, 758, 887, 1000]),
        (10, " 2 , 2", [1, 5, 6, 10]),
        (10, np.array([2, 5]), [2, 5]),
        (10, np.int64(2), [1, 10]),
    ],
)
def test_named_spacings(num_steps, spacing, expected):
    assert linear(num_steps).respaced(spacing).steps[1:].tolist() == list(expected)


def improved_diffusion_steps(num_steps: int, counts: list[int]) -> list[int]:
    """The steps that improved-diffusion's timestep_respacing keeps, counted from 1, by its rule said in words.

    Of S parts the first T mod S have one step more than the others. In a part of n steps of which c > 1 are kept, one
    starts at its first and goes on by (n - 1) / (c - 1), adding up in floating point, and keeps Python's round of
    every place; of c = 1 the first.
    """
    kept, start = [], 0
    for part, count in enumerate(counts):
        size = num_steps // len(counts) + (part < num_steps % len(counts))
        place, stride = 0.0, (size - 1) / (count - 1) if count > 1 else 0.0
        for _ in range(count):
            kept.append(1 + start + round(place))
            place += stride
        start += size
    return kept


@given(st.integers(1, 1000), st.data())
def test_spacing_by_counts_is_improved_diffusions(num_steps, data):
    """Every part, every tie."""
    parts = data.draw(st.integers(1, min(num_steps, 5)))
    counts = [data.draw(st.integers(1, num_steps // parts)) for _ in range(parts)]
    visited = spaced_steps(num_steps, ",".join(map(str, counts)))
    assert visited.tolist() == improved_diffusion_steps(num_steps, counts)


def test_a_published_respacing_is_the_same_steps():
    """All 999 counts of a chain of 1,000, as a number and as text; and "10,10,10", whose first part has 334 steps."""
    for count in range(2, 1001):
        expected = improved_diffusion_steps(1000, [count])
        assert spaced_steps(1000, count).tolist() == spaced_steps(1000, str(count)).tolist() == expected
    thirds = spaced_steps(1000, "10,10,10").tolist()
    assert thirds == improved_diffusion_steps(1000, [10, 10, 10])
    assert (thirds[0], thirds[9], thirds[10], thirds[19], thirds[20], thirds[29]) == (1, 334, 335, 667, 668, 1000)


@given(schedules())
def test_tables_are_monotone_and_consistent(schedule):
    """alpha_bar falls from 1, log SNR falls from inf, and alpha_bar + (1 - alpha_bar) = 1."""
    assert schedule.alpha_bar[0] == 1
    assert schedule.log_snr[0] == np.inf
    assert np.all(np.diff(schedule.alpha_bar) < 0)
    assert np.all(np.diff(schedule.log_snr) < 0)
    np.testing.assert_allclose(schedule.alpha_bar + schedule.one_minus_alpha_bar, 1, atol=4e-16)  # two roundings
    np.testing.assert_allclose(schedule.alpha + schedule.beta, 1, atol=4e-16)
    np.testing.assert_array_equal(schedule.steps[[0, -1]] >= [0, 1], True)


@given(schedules())
def test_from_betas_rebuilds_any_schedule(schedule):
    again = from_betas(np.clip(schedule.beta[1:], None, 1 - 1e-16))
    # A beta near 1 has lost the digits of 1 - beta: 1e-16 / alpha.
    np.testing.assert_allclose(again.alpha_bar, schedule.alpha_bar, rtol=1e-14 + 1e-15 / schedule.alpha.min())


@given(st.floats(-30, 30), st.lists(st.floats(1e-3, 20), min_size=0, max_size=10))
def test_from_log_snr_has_that_log_snr(first, falls):
    log_snr = first - np.cumsum([0.0, *falls])
    schedule = from_log_snr(log_snr)
    # log alpha_bar reaches 230, and is rounded twice.
    np.testing.assert_allclose(schedule.log_snr[1:], log_snr, rtol=0, atol=1e-13)


def test_papers_settings():
    """The ends that the papers print."""
    assert linear(1000).beta[[1, -1]].tolist() == [1e-4, 0.02]
    assert linear(50, scaled=True).beta[-1] == pytest.approx(0.4, rel=1e-15)
    assert cosine(1000).beta[-1] == 0.999
    assert np.all(cosine(1000).beta[:-1] < 0.999)
    assert quadratic(10).beta[[1, -1]] == pytest.approx([1e-4, 0.02], rel=1e-15)
    assert np.all(constant(7).beta[1:] == 0.01)
    assert harmonic(4).beta[1:].tolist() == [1 / 4, 1 / 3, 1 / 2, 0.999]
    assert sigmoid(100).beta[-1] == 0.999


@pytest.mark.parametrize(
    ("name", "num_steps", "alpha_bar"),
    [
        ("linear", 1000, [0.9999, 0.19514644493343239, 4.0358297653756833e-5]),
        ("linear-scaled", 100, [0.999, 0.19151625146104097, 2.0390089755640777e-5]),
        ("cosine", 1000, [0.99995871577517822, 0.64747821114650391, 2.4287669070344684e-9]),
        ("quadratic", 1000, [0.9999, 0.53875045690368814, 0.00073341245958081491]),
        ("sigmoid", 1000, [0.99969972080025081, 0.66091983345188388, 3.0027919974918601e-7]),
        ("constant", 1000, [0.99, 0.017950553275045202, 4.3171247410658251e-5]),
        ("harmonic", 1000, [0.999, 0.6, 1e-6]),
        ("log-linear", 1000, [0.99999832550959449, 0.99750505614342476, 0.0066928509242848556]),
    ],
)
def test_a_name_stands_for_the_papers_settings(name, num_steps, alpha_bar):
    """alpha_bar at t = 1, 2T/5 and T, from the papers' formulas and constants in 50 digits."""
    schedule = make_schedule(name, num_steps)
    np.testing.assert_allclose(schedule.alpha_bar[[1, 2 * num_steps // 5, -1]], alpha_bar, rtol=1e-14)
    assert set(SCHEDULES) == {
        "linear",
        "linear-scaled",
        "cosine",
        "quadratic",
        "sigmoid",
        "constant",
        "harmonic",
        "log-linear",
    }


@pytest.mark.parametrize("make", MAKERS)
def test_one_step(make):
    assert make(1).num_steps == 1
    assert 0 < make(np.int64(1)).beta[1] < 1


def test_schedules_cannot_be_written_to():
    given_betas = np.full(3, 0.1)
    schedule = from_betas(given_betas)
    given_betas[0] = 0.5
    assert schedule.beta[1] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        schedule.beta[1] = 0.5
    with pytest.raises(AttributeError):
        schedule.name = "other"


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_by_name(name):
    schedule = make_schedule(name, 100)
    assert schedule.num_steps == 100
    assert schedule.name.startswith(name)
    assert repr(schedule) == f"Schedule({schedule.name}, num_steps=100)"


KNOWN = ", ".join(SCHEDULES)
A_SPACING = 'a spacing is a number, "ddimN", "quadraticN", "logsnrN", or numbers as in "10,10,10", N at least 1, got '


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: linear(0), "a schedule has a whole number of steps T >= 1, got 0"),
        (lambda: cosine(-3), "a schedule has a whole number of steps T >= 1, got -3"),
        (lambda: sigmoid(2.5), "a schedule has a whole number of steps T >= 1, got 2.5"),
        (lambda: harmonic("10"), "a schedule has a whole number of steps T >= 1, got '10'"),
        (lambda: constant(True), "a schedule has a whole number of steps T >= 1, got True"),
        (lambda: quadratic(np.nan), "a schedule has a whole number of steps T >= 1, got nan"),
        (lambda: from_betas([]), "betas are a list beta_1..beta_T with T >= 1, got an array of shape (0,)"),
        (lambda: from_betas(0.1), "betas are a list beta_1..beta_T with T >= 1, got an array of shape ()"),
        (lambda: from_betas([[0.1]]), "betas are a list beta_1..beta_T with T >= 1, got an array of shape (1, 1)"),
        (lambda: from_betas([0.1, 0.0]), "betas lie strictly between 0 and 1, got 0.0 (1 such values)"),
        (lambda: from_betas([1.0, 2.0]), "betas lie strictly between 0 and 1, got 1.0 (2 such values)"),
        (lambda: from_betas([0.1, np.nan]), "betas lie strictly between 0 and 1, got nan (1 such values)"),
        (
            lambda: from_betas(np.full(2000, 0.5)),
            "alpha_bar_T would underflow, its log being -1386; use fewer steps or smaller betas",
        ),
        (lambda: linear(10, -0.1), "betas lie strictly between 0 and 1, got -0.1 (8 such values)"),
        (lambda: constant(3, 1.5), "betas lie strictly between 0 and 1, got 1.5 (3 such values)"),
        (lambda: cosine(3, max_beta=1.0), "betas lie strictly between 0 and 1, got 1.0 (1 such values)"),
        (lambda: cosine(3, s=-1.0), "the offset s of the cosine schedule is at least 0, got -1.0"),
        (lambda: sigmoid(3, 1.0, 1.0), "the sigmoid schedule needs start < end and tau > 0, got 1.0, 1.0, 1.0"),
        (lambda: sigmoid(3, tau=0.0), "the sigmoid schedule needs start < end and tau > 0, got -3.0, 3.0, 0.0"),
        (
            lambda: linear(20, scaled=True),
            "the scaled linear schedule ends at beta = 0.02 * 1000/T, which must stay below 1: T is at least 21, "
            "got 20; use scaled=False or lower beta_end",
        ),
        (lambda: from_log_snr([]), "log SNRs are a list for steps 1..T with T >= 1, got an array of shape (0,)"),
        (
            lambda: from_log_snr([0.0, 0.0]),
            "log SNRs are numbers that fall strictly from step 1 to T; sort them in falling order",
        ),
        (
            lambda: from_log_snr([np.nan]),
            "log SNRs are numbers that fall strictly from step 1 to T; sort them in falling order",
        ),
        (lambda: from_log_snr([np.inf, 0.0]), "log SNRs lie within -700..700, where exp is finite, got inf to 0.0"),
        (lambda: from_log_snr([0.0, -701.0]), "log SNRs lie within -700..700, where exp is finite, got 0.0 to -701.0"),
        (lambda: make_schedule("cosin", 10), f"unknown schedule 'cosin'; known: {KNOWN}"),
        (lambda: linear(10).respaced(11), "steps 1..10 can be respaced to 1..10 steps, got 11"),
        (lambda: linear(10).respaced(0), "steps 1..10 can be respaced to 1..10 steps, got 0"),
        (
            lambda: linear(1000).respaced("ddim300"),
            "no integer stride visits exactly 300 of 1000 steps; use the number 300 instead of 'ddim300'",
        ),
        (
            lambda: linear(10).respaced("ddim"),
            A_SPACING + "'ddim'",
        ),
        (
            lambda: linear(10).respaced("3,²"),
            A_SPACING + "'3,²'",
        ),
        (lambda: linear(10).respaced("3,"), A_SPACING + "'3,'"),
        (lambda: linear(10).respaced("logsnr0"), A_SPACING + "'logsnr0'"),
        (lambda: linear(10).respaced("quadratic"), A_SPACING + "'quadratic'"),
        (lambda: linear(10).respaced("quadratic11"), "steps 1..10 can be respaced to 1..10 steps, got 11"),
        (lambda: linear(10).respaced("logsnr11"), "steps 1..10 can be respaced to 1..10 steps, got 11"),
        (
            lambda: spaced_steps(10, "logsnr5"),
            "the spacing 'logsnr5' needs the schedule's log_snr; use schedule.respaced",
        ),
        (lambda: linear(10).respaced("6,1"), "steps 1..5 can be respaced to 1..5 steps, got 6"),
        (lambda: linear(2).respaced("1,1,1"), "2 steps cannot be cut into 3 parts; use fewer counts than '1,1,1'"),
        (lambda: linear(10).respaced([]), "visited steps are a non-empty list of integers, got []"),
        (lambda: linear(10).respaced([1.0]), "visited steps are a non-empty list of integers, got [1.0]"),
        (
            lambda: linear(10).respaced([3, 2]),
            "visited steps increase within 1..10, got [3, 2]; sort them, drop repeats",
        ),
        (
            lambda: linear(10).respaced([2, 2]),
            "visited steps increase within 1..10, got [2, 2]; sort them, drop repeats",
        ),
        (
            lambda: linear(10).respaced([0, 2]),
            "visited steps increase within 1..10, got [0, 2]; sort them, drop repeats",
        ),
        (lambda: linear(10).respaced([11]), "visited steps increase within 1..10, got [11]; sort them, drop repeats"),
    ],
)
def test_bad_input_is_one_clear_line(act, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        act()
    assert str(caught.value) == message


def test_a_long_respacing_keeps_what_beta_cannot_hold():
    """Over the unscaled chain of T = 4000 alpha_bar falls to exp(-40): beta rounds to 1, alpha and log SNR do not."""
    short = linear(4000).respaced(1)
    assert short.alpha[1] == pytest.approx(linear(4000).alpha_bar[-1], rel=1e-14)
    assert np.isfinite(short.log_snr[1])
    assert spaced_steps(4000, 1).tolist() == [4000]
