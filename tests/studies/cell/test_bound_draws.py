"""The plan of a bound's draws: what it visits, and that a budget only says how far down the lists to go."""

from __future__ import annotations

import numpy as np

from core.strata import geometric_strata
from studies.cell.bound_draws import plan_draws

PLAN = plan_draws(geometric_strata(300), num_examples=7, seed=3)
NOTHING = np.zeros(len(PLAN.strata), np.int64)


def of_stratum(draws, h):
    chosen = draws[draws.stratum == h]
    return np.stack([chosen.order, chosen.example, chosen.t])


def test_a_larger_budget_goes_further_down_the_same_lists():
    """Two legs are one walk, whatever the place where they meet; in a pilot's pair, or after it."""
    end = NOTHING + 60
    whole = PLAN.draws_between(NOTHING, end)
    for meet in (1, 3, 4, 17, 40):
        first, second = PLAN.draws_between(NOTHING, NOTHING + meet), PLAN.draws_between(NOTHING + meet, end)
        for h in range(len(PLAN.strata)):
            legs = np.concatenate([of_stratum(first, h), of_stratum(second, h)], axis=1)
            np.testing.assert_array_equal(legs, of_stratum(whole, h))


def test_a_pilot_is_pairs_of_one_example_and_step_and_what_follows_is_single():
    draws = PLAN.draws_between(NOTHING, NOTHING + 40)
    for h, pilot in enumerate(PLAN.pilot):
        _, example, t = of_stratum(draws, h)
        assert pilot in (4, 32)
        np.testing.assert_array_equal(example[:pilot:2], example[1:pilot:2])
        np.testing.assert_array_equal(t[:pilot:2], t[1:pilot:2])
        # One visit a pair and one a draw after it: whole shuffles of the 7 examples, one after another.
        visits = np.append(example[:pilot:2], example[pilot:])
        for start in range(0, len(visits) - 6, 7):
            assert sorted(visits[start : start + 7]) == list(range(7))


def test_steps_lie_in_their_stratum_and_fill_it_evenly():
    """By golden section the steps of n visits differ from an even share by a few visits at most, not by sqrt(n)."""
    draws = PLAN.draws_between(NOTHING, NOTHING + 3000)
    for h in range(len(PLAN.strata)):
        first, last = PLAN.strata.first[h], PLAN.strata.last[h]
        _, _, t = of_stratum(draws, h)
        assert t.min() == first
        assert t.max() == last
        counts = np.bincount(t[PLAN.pilot[h] :] - first, minlength=last - first + 1)
        assert np.abs(counts - counts.mean()).max() <= 4


def test_only_the_pilot_of_the_first_stratum_is_left_out_of_the_estimate():
    draws = PLAN.draws_between(NOTHING, NOTHING + 40)
    left_out = draws[~PLAN.is_estimated_from(draws)]
    assert set(left_out.stratum) == {0}
    assert sorted(left_out.order) == list(range(32))
    np.testing.assert_array_equal(PLAN.least[:3], [64, 4, 4])


def test_the_parts_that_share_a_slope_keep_pairs_and_pilots_apart():
    draws = PLAN.draws_between(NOTHING, NOTHING + 40)
    part = PLAN.part(draws)
    assert set(part[draws.stratum == 0][:32]) == {2, 3}
    assert set(part[draws.stratum == 0][32:]) == {0, 1}
    for h, pilot in enumerate(PLAN.pilot):
        assert np.all(np.diff(part[draws.stratum == h][:pilot]) % 2 == 1)
        assert h == 0 or set(part[draws.stratum == h]) == {0, 1}


def test_another_seed_draws_otherwise():
    other = plan_draws(geometric_strata(300), num_examples=7, seed=4)
    same, differs = (plan.draws_between(NOTHING, NOTHING + 60) for plan in (PLAN, other))
    assert np.mean(same.example != differs.example) > 0.5
