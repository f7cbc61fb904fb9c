"""The verdict says what the rows say: its numbers are recomputed with scipy, its caution is tested at every edge."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from studies.reporting import verdict
from studies.reporting.contrasts import by_t, contrast, floor, values
from studies.reporting.numbers import plain, size_of, unbroken
from studies.reporting.ranking import differences_by_range
from studies.reporting.view import View, views_of
from studies.statistics import mean_interval, seeds_to_resolve
from studies.store.reading import CellRecord, Run, with_recipes
from studies.store.recipes import Recipe

KEYS = ("objective", "backend", "seed")


def frame_of(bounds: dict[tuple[str, str], list[float]], metric: str = "bound", **more: object) -> pd.DataFrame:
    """Rows of one metric from {(objective, backend): values by seed}; NaN leaves the cell out."""
    rows = [
        {
            "dataset": "digits", "schedule": "linear", "prediction": "epsilon", "variance": "beta_tilde",
            "objective": objective, "backend": backend, "seed": seed, "step": np.nan, "t": np.nan, "t_last": np.nan,
            "sampler": None, "metric": metric, "value": value, "standard_error": 0.01, "unit": "bits/dim", **more,
        }
        for (objective, backend), by_seed in bounds.items()
        for seed, value in enumerate(by_seed)
        if not math.isnan(value)
    ]  # fmt: skip
    return with_recipes(pd.DataFrame(rows))


def of(objective: str) -> Recipe:
    """The recipe of a study that compares objectives alone."""
    return Recipe(("objective",), (objective,))


def run_of(frame: pd.DataFrame, cells: Sequence[CellRecord] = ()) -> Run:
    return Run("made-up", Path(), {}, {}, frame, tuple(cells))


def view_of(frame: pd.DataFrame) -> View:
    (view,) = views_of(run_of(frame))
    return view


def headline(frame: pd.DataFrame) -> str:
    return verdict.headline(views_of(run_of(frame)))


def verdict_sentences(frame: pd.DataFrame, cells: Sequence[CellRecord] = ()) -> list[str]:
    run = run_of(frame, cells)
    return verdict.verdict_sentences(run, views_of(run))


MSE, KL = [3.11, 3.14, 3.08], [3.085, 3.101, 3.052]
CLEAR = {("epsilon_mse", "torch"): MSE, ("posterior_kl", "torch"): KL}


def numbers_in(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"\d+\.\d+", text.replace("\N{MINUS SIGN}", "-"))]


def test_resolved_difference_is_that_of_scipy():
    """Estimate and half width in the sentence are those of scipy.stats.ttest_rel, to the digits written."""
    sentence = verdict_sentences(frame_of(CLEAR))[0]
    interval = stats.ttest_rel(MSE, KL).confidence_interval(0.95)
    assert interval.low > 0
    difference, half = (interval.low + interval.high) / 2, (interval.high - interval.low) / 2
    found = re.search(r"a difference of (\d\.\d+)\s±\s(\d\.\d+)", sentence)
    assert found is not None
    assert float(found[1]) == pytest.approx(difference, abs=0.5 * 10 ** -len(found[1].split(".")[1]))
    assert float(found[2]) == pytest.approx(half, abs=0.5 * 10 ** -len(found[2].split(".")[1]))
    assert "training with the posterior KL (the variational bound) gives a lower test bound" in sentence
    assert "3 paired seeds" in sentence
    assert {round(np.mean(KL), 3), round(np.mean(MSE), 3)} <= set(numbers_in(sentence))
    assert headline(frame_of(CLEAR)) == "The posterior KL has the better likelihood bound."


def test_a_number_stays_on_a_line_with_its_sign():
    """And t with its value; other words may be parted, and a word that begins like a unit is none."""
    text = "within 95 % (standard error 1.0 %) at t = 1 and t = T, 25 steps, 95 MB in 3 s by 3 seeds, k = b"
    kept = "within 95~% (standard error 1.0~%) at t~=~1 and t~=~T, 25 steps, 95~MB in 3~s by 3 seeds, k = b"
    assert unbroken(text) == kept.replace("~", "\N{NO-BREAK SPACE}")


def test_a_headline_names_the_few_that_lead_or_the_few_that_do_not():
    """Four objectives of one spread: which of them are clearly behind is made plain by their distance."""

    def told(**offsets: float) -> str:
        noise = {"hybrid": [0, 1, 0], "target_mse": [0, 0, 1], "posterior_kl": [1, 0, 0], "epsilon_mse": [0, 0, 0]}
        return headline(
            frame_of(
                {(name, "torch"): [3 + offsets.get(name, 0.0) + 1e-3 * one for one in noise[name]] for name in noise}
            )
        )

    assert told(posterior_kl=1.0) == "Any but the posterior KL has the best likelihood bound."
    two = "The epsilon MSE or the target MSE has the best likelihood bound."
    assert told(posterior_kl=1.0, hybrid=1.0) == two
    assert told(epsilon_mse=-1.0) == "The epsilon MSE has the best likelihood bound."
    assert "cannot tell" in told()


def test_pooled_difference_averages_frameworks_within_a_seed():
    """Two frameworks give one difference a seed, their mean; the interval has n - 1 = 2 degrees of freedom."""
    keras_mse, keras_kl = [3.12, 3.15, 3.07], [3.09, 3.104, 3.06]
    frame = frame_of({**CLEAR, ("epsilon_mse", "keras"): keras_mse, ("posterior_kl", "keras"): keras_kl})
    mean = (
        [np.mean(pair) for pair in zip(MSE, keras_mse, strict=True)],
        [np.mean(pair) for pair in zip(KL, keras_kl, strict=True)],
    )
    expected = stats.ttest_rel(*mean).confidence_interval(0.95)
    one = contrast(values(frame, "bound"), "recipe", of("epsilon_mse"), of("posterior_kl"))
    assert one is not None
    assert (one.interval().low, one.interval().high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert size_of(one.interval()) in verdict_sentences(frame)[0]


def test_unresolved_difference_names_the_seeds_it_would_take():
    mse, kl = [3.10, 3.12, 3.07], [3.108, 3.105, 3.072]
    sentence = verdict_sentences(frame_of({("epsilon_mse", "torch"): mse, ("posterior_kl", "torch"): kl}))[0]
    assert "cannot be told apart" in sentence
    assert "lower test bound than" not in sentence
    needed = seeds_to_resolve(np.subtract(mse, kl))
    assert (f"about {needed:.0f} seeds would resolve" if needed <= 200 else "more than 200 seeds") in sentence


def test_one_seed_claims_nothing():
    sentences = verdict_sentences(frame_of({key: by_seed[:1] for key, by_seed in CLEAR.items()}))
    assert "one seed gives no interval" in sentences[0]
    assert "±" not in " ".join(sentences)
    assert "cannot say" in headline(frame_of({key: by_seed[:1] for key, by_seed in CLEAR.items()}))


def test_equal_values_are_said_to_be_equal():
    frame = frame_of({("epsilon_mse", "torch"): MSE, ("posterior_kl", "torch"): MSE})
    assert "they are equal in every seed" in verdict_sentences(frame)[0]


def test_a_seed_without_its_partner_is_left_out_and_the_count_says_so():
    frame = frame_of({**CLEAR, ("posterior_kl", "torch"): [KL[0], math.nan, KL[2]]})
    one = contrast(values(frame, "bound"), "recipe", of("epsilon_mse"), of("posterior_kl"))
    assert one is not None
    assert one.left_out == (1,)
    assert one.interval() == mean_interval([MSE[0] - KL[0], MSE[2] - KL[2]])
    assert "2 " in verdict_sentences(frame)[0]


def test_a_framework_that_failed_altogether_does_not_cost_the_seeds():
    frame = frame_of({**CLEAR, ("epsilon_mse", "keras"): MSE})
    one = contrast(values(frame, "bound"), "recipe", of("epsilon_mse"), of("posterior_kl"))
    assert one is not None
    assert len(one.differences) == 3


def test_a_seed_short_of_one_framework_is_left_out_of_the_pooled_difference():
    """The other framework's difference does not stand in for it."""
    keras = {("epsilon_mse", "keras"): [4.0, 4.1, 4.3], ("posterior_kl", "keras"): [3.0, math.nan, 3.2]}
    one = contrast(values(frame_of({**CLEAR, **keras}), "bound"), "recipe", of("epsilon_mse"), of("posterior_kl"))
    assert one is not None
    assert one.left_out == (1,)
    expected = {0: (MSE[0] - KL[0] + 1.0) / 2, 2: (MSE[2] - KL[2] + 1.1) / 2}
    assert one.differences.to_dict() == pytest.approx(expected)


def test_a_floor_is_of_its_metric_and_sampler():
    floors = {"ddim-50": 0.3, "ancestral-100": 0.7}
    frame = pd.concat(
        frame_of({("epsilon_mse", "torch"): [value - 0.1, value + 0.1]}, f"{metric}_floor", sampler=sampler)
        for metric, factor in (("frechet", 1), ("mmd2_1", 10))
        for sampler, value in ((name, factor * least) for name, least in floors.items())
    )
    assert {name: floor(frame, "frechet", name) for name in floors} == pytest.approx(floors)
    assert floor(frame, "frechet", "dpm_solver-20") is None


def test_framework_effect_stands_beside_the_objective_effect():
    keras = {
        (objective, "keras"): [value + 0.001 * (-1) ** seed for seed, value in enumerate(by_seed)]
        for (objective, _), by_seed in CLEAR.items()
    }
    sentences = verdict_sentences(frame_of({**CLEAR, **keras}))
    found = next(sentence for sentence in sentences if sentence.startswith("The framework"))
    assert "changes no bound by an amount that 3 seeds can see" in found
    half = stats.ttest_rel([0.001, -0.001, 0.001], [0, 0, 0]).confidence_interval(0.95)
    assert plain((half.high - half.low) / 2, 2) in found


def test_framework_effect_that_is_there_is_said():
    keras = {
        (objective, "keras"): [value + 0.02 + 1e-4 * seed for seed, value in enumerate(by_seed)]
        for (objective, _), by_seed in CLEAR.items()
    }
    sentences = verdict_sentences(frame_of({**CLEAR, **keras}))
    assert any(sentence.startswith("The framework changes the bound") for sentence in sentences)


def test_one_framework_leaves_its_effect_unknown():
    assert any("effect is not known" in sentence for sentence in verdict_sentences(frame_of(CLEAR)))


def test_several_recipes_are_compared_jointly():
    """With k recipes the best is picked by the data: intervals widen to 1 - 0.05 / (k (k - 1) / 2)."""
    third = [3.02, 3.05, 2.99]
    frame = frame_of({**CLEAR, ("hybrid", "torch"): third})
    found = view_of(frame).ranking("bound")
    assert found is not None
    assert found.best == of("hybrid")
    expected = stats.ttest_rel(KL, third).confidence_interval(1 - 0.05 / 3)
    assert (found.leads[of("posterior_kl")].low, found.leads[of("posterior_kl")].high) == pytest.approx(
        (expected.low, expected.high)
    )
    assert "hold jointly at 95 % over 3 comparisons" in verdict_sentences(frame)[0]


def test_higher_is_better_where_the_metric_says_so():
    good, bad = [0.91, 0.92, 0.90], [0.81, 0.83, 0.80]
    frame = frame_of(
        {("epsilon_mse", "torch"): bad, ("posterior_kl", "torch"): good},
        "precision",
        sampler="ddim-50",
        unit="fraction",
    )
    found = view_of(frame).ranking("precision", "ddim-50")
    assert found is not None
    assert found.best == of("posterior_kl")
    assert found.leads[of("epsilon_mse")].low > 0
    sentence = next(text for text in verdict_sentences(frame) if text.startswith("For samples"))
    assert "DDIM, 50 steps" in sentence
    assert "a higher precision" in sentence


def test_a_metric_of_unknown_direction_ranks_nothing():
    frame = frame_of(CLEAR, "strangeness")
    assert view_of(frame).ranking("strangeness") is None


def test_p_values_rank_nothing():
    assert view_of(frame_of(CLEAR, "c2st_p", sampler="ddim-50")).ranking("c2st_p", "ddim-50") is None


def test_failures_divergence_and_broken_samples_are_named(tmp_path):
    frame = pd.concat([frame_of(CLEAR), frame_of({("posterior_kl", "torch"): [214.0]}, "diverged", unit="step")])
    broken = frame_of({("epsilon_mse", "torch"): [3.0]}, "samples_not_finite", sampler="ancestral-100", unit="values")
    cell = CellRecord(tmp_path / "digits-linear-x", {}, {}, "RuntimeError: out of memory", finished=False)
    text = " ".join(verdict_sentences(pd.concat([frame, broken]), [cell]))
    assert "1 cell failed: digits-linear-x (RuntimeError: out of memory)" in text
    assert "1 cell diverged" in text
    assert "posterior KL in PyTorch, seed 0, by step 214" in text
    assert "not finite: epsilon MSE in PyTorch, seed 0, ancestral, 100 steps" in text


def test_a_run_whose_cells_diverged_does_not_say_that_one_recipe_finished():
    """All diverged; all of the first recipe; and another seed of each, so that no seed has two bounds."""
    mse, kl = ("epsilon_mse", "torch"), ("posterior_kl", "torch")
    none = frame_of({mse: [3.0, 3.0], kl: [3.0, 3.0]}, "diverged", unit="step")
    assert headline(none) == "No recipe has a test bound or scored samples to compare."
    second = pd.concat([none[none["objective"] == "epsilon_mse"], frame_of({kl: KL[:2]})])
    assert headline(second) == "Only one recipe finished (posterior KL), so there is nothing to compare it with."
    bounds = frame_of({mse: MSE[:2], kl: KL[:2]})
    apart = bounds[(bounds["objective"] == "epsilon_mse") == (bounds["seed"] == 0)]
    assert headline(apart) == "No seed has a test bound of two recipes, so there is nothing to compare."
    assert "no seed has a test bound of two recipes" in verdict_sentences(apart)[0]


def test_an_empty_frame_has_nothing_to_compare():
    empty = with_recipes(frame_of(CLEAR).iloc[:0].drop(columns="recipe"))
    assert headline(empty) == "No cell finished, so there is nothing to compare."
    assert verdict_sentences(empty) == []


def test_two_values_of_one_cell_are_refused():
    frame = pd.concat([frame_of(CLEAR), frame_of(CLEAR)])
    with pytest.raises(ValueError, match="expected one value a cell"):
        values(frame, "bound")


@given(
    st.lists(st.tuples(st.floats(2, 4), st.floats(2, 4)), min_size=2, max_size=8).filter(
        lambda pairs: np.std([a - b for a, b in pairs]) > 1e-6
    )
)
def test_a_winner_is_named_just_where_the_interval_excludes_zero(pairs):
    """The headline names the better bound if and only if the paired t test rejects at 5 %."""
    mse, kl = map(list, zip(*pairs, strict=True))
    told = headline(frame_of({("epsilon_mse", "torch"): mse, ("posterior_kl", "torch"): kl}))
    p = stats.ttest_rel(mse, kl).pvalue
    if abs(p - 0.05) > 1e-9:
        assert ("has the better likelihood bound" in told) == (p < 0.05)
        if p < 0.05:
            assert ("posterior KL" if np.mean(kl) < np.mean(mse) else "epsilon MSE") in told


def test_running_total_by_t_ends_at_the_sum_of_the_terms():
    """sum over runs of (t_last - t + 1) * mean per step, and halfway through a run half of its share."""
    runs = [(1, 1, 1.3), (2, 5, 0.2), (6, 10, 0.02)]
    frame = pd.concat(
        [frame_of({("epsilon_mse", "torch"): [value]}, "bound_at_t", t=t, t_last=last) for t, last, value in runs]
        + [
            frame_of({("posterior_kl", "torch"): [value]}, "bound_at_t", t=t, t_last=last)
            for t, last, value in [(1, 3, 0.5), (4, 10, 0.1)]
        ]
    )
    spent = by_t(frame).set_index(["recipe", "t"])["value"]
    assert spent[of("epsilon_mse"), 10] == pytest.approx(1.3 + 4 * 0.2 + 5 * 0.02)
    assert spent[of("epsilon_mse"), 3] == pytest.approx(1.3 + 2 * 0.2)
    assert spent[of("posterior_kl"), 1] == pytest.approx(0.5)
    assert spent[of("posterior_kl"), 10] == pytest.approx(3 * 0.5 + 7 * 0.1)


def test_a_gain_is_split_by_ranges_of_t():
    """Within each seed first - second of what each spent in a range; a run across a cut is shared out by its steps."""
    rng = np.random.default_rng(0)
    runs = {"epsilon_mse": [(1, 1), (2, 10), (11, 300)], "posterior_kl": [(1, 1), (2, 6), (7, 20), (21, 300)]}
    per_step = {name: rng.uniform(0.1, 1, (3, len(spans))) for name, spans in runs.items()}
    frame = pd.concat(
        frame_of({(name, "torch"): list(per_step[name][:, i])}, "bound_at_t", t=t, t_last=last)
        for name, spans in runs.items()
        for i, (t, last) in enumerate(spans)
    )
    ranges = differences_by_range(by_t(frame), of("epsilon_mse"), of("posterior_kl"))
    assert ranges is not None
    words = ["t = 1 (the decoder)", "t = 2 to 10", "t = 11 to 100", "t = 101 to 300"]
    assert [where.replace("\N{NO-BREAK SPACE}", " ") for where, _ in ranges] == [f"at {each}" for each in words]
    a, b = per_step["epsilon_mse"].T, per_step["posterior_kl"].T
    mse = [a[0], 9 * a[1], 90 * a[2], 200 * a[2]]
    kl = [b[0], 5 * b[1] + 4 * b[2], 10 * b[2] + 80 * b[3], 200 * b[3]]
    for (_, found), first, second in zip(ranges, mse, kl, strict=True):
        expected = stats.ttest_rel(first, second).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_a_metric_whose_ideal_lies_inside_its_range_ranks_nothing():
    """Memorisation is best at 1/2: less is no better, so it takes no side."""
    frame = frame_of(CLEAR, "memorisation", sampler="ddim-50")
    assert view_of(frame).ranking("memorisation", "ddim-50") is None


def test_a_tiny_framework_effect_is_put_in_proportion():
    """An effect that is there but is a thousandth of the objective's is not said to change anything."""
    keras = {
        (objective, "keras"): [value + 1e-6 + 1e-8 * seed for seed, value in enumerate(by_seed)]
        for (objective, _), by_seed in CLEAR.items()
    }
    sentences = verdict_sentences(frame_of({**CLEAR, **keras}))
    found = next(sentence for sentence in sentences if sentence.startswith("The framework"))
    assert "matters little beside the objectives" in found
    assert "(1.010 ± 0.025) \N{MULTIPLICATION SIGN} 10⁻⁶ bits/dim" in found.replace("\N{NO-BREAK SPACE}", " ")
    assert "at most 0.01 % of the difference" in found


def test_an_answer_about_the_kl_under_uniform_t_comes_with_a_caution():
    """And no other does: a run of both ways, one without the KL, and one whose rows do not say."""
    uniform, importance = (frame_of(CLEAR, timesteps=how) for how in ("uniform", "importance"))
    both = with_recipes(pd.concat([uniform, importance]).drop(columns="recipe"))
    without = frame_of({("epsilon_mse", "torch"): MSE, ("target_mse", "torch"): KL}, timesteps="uniform")
    told = ["--timesteps uniform importance" in " ".join(verdict_sentences(one)) for one in (uniform, both, without)]
    assert told == [True, False, False]
    assert not any("--timesteps" in sentence for sentence in verdict_sentences(frame_of(CLEAR)))


def test_the_headline_names_the_metrics_that_disagree():
    """Fréchet distance favours the MSE, sliced W2 the KL, precision the MSE: only the second is named."""
    better, worse = [1.0, 1.1, 0.9], [2.0, 2.2, 2.0]
    favours = {"frechet": (better, worse), "sliced_w2": (worse, better), "precision": (worse, better)}
    frame = pd.concat(
        frame_of({("epsilon_mse", "torch"): mse, ("posterior_kl", "torch"): kl}, metric, sampler="ddim-50")
        for metric, (mse, kl) in favours.items()
    )
    expected = "The epsilon MSE has the better samples (by Fréchet distance; sliced Wasserstein distance W₂ disagrees)."
    assert headline(frame) == expected


def test_training_is_told_in_processor_seconds_where_every_cell_has_them():
    """Otherwise by the clock, and the sentence says so: for an older run, and where some cells are older."""

    def told(*parts: pd.DataFrame) -> str:
        sentences = verdict_sentences(pd.concat([frame_of(CLEAR), *parts]))
        return next(sentence for sentence in sentences if sentence.startswith("Training one cell took"))

    spent = {"train_seconds": 300.0, "train_processor_seconds": 100.0}
    rows = {name: frame_of({key: [value] * 3 for key in CLEAR}, name, unit="s") for name, value in spent.items()}
    assert told(*rows.values()) == "Training one cell took 100 s in PyTorch (median, of processor time)."
    by_clock = "Training one cell took 300 s in PyTorch (median, by the clock, other load on the machine included)."
    assert told(rows["train_seconds"]) == by_clock
    assert told(rows["train_seconds"], rows["train_processor_seconds"].iloc[1:]) == by_clock


def test_on_a_gpu_training_is_told_by_the_clock(tmp_path):
    """The processor only feeds it."""
    cell = CellRecord(tmp_path / "digits-linear-x", {}, {"device": "cuda (an accelerator)"}, None, finished=True)
    spent = {"train_seconds": 300.0, "train_processor_seconds": 100.0}
    rows = [frame_of({key: [value] * 3 for key in CLEAR}, name, unit="s") for name, value in spent.items()]
    assert "300 s in PyTorch" in " ".join(verdict_sentences(pd.concat([frame_of(CLEAR), *rows]), [cell]))


def test_many_troubles_are_named_by_a_few(tmp_path):
    """Of 12 failed cells three are named, and how many there are besides."""
    cells = [
        CellRecord(tmp_path / f"digits-{i}", {}, {}, "RuntimeError: out of memory", finished=False) for i in range(12)
    ]
    text = " ".join(verdict_sentences(frame_of(CLEAR), cells))
    assert "12 cells failed" in text
    assert text.count("out of memory") == 3
    assert "and 9 more" in text
