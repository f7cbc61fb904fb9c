"""Many recipes: ranked by joint intervals, those that failed to train apart, and spoken of in one sentence."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from studies.reporting.figures import figures_of
from studies.reporting.plotting import PALETTE
from studies.reporting.ranking import far_behind, rank_ranges
from studies.reporting.tables import dataset_tables
from studies.reporting.verdict import findings, headline
from studies.reporting.view import View, views_of
from studies.store.reading import read_run
from tests.studies.synthetic_run import make_many

NBSP = "\N{NO-BREAK SPACE}"
DIVERGED = "linear · x_0 · hybrid"


@pytest.fixture(scope="module", params=[16, 100])
def view(request, tmp_path_factory) -> View:
    folder = tmp_path_factory.mktemp("many") / "run"
    few_curves = request.param == 16
    run = make_many(folder, request.param, curves=few_curves, samples=few_curves, samplers=["ancestral-100"])
    (view,) = views_of(read_run(run))
    return view


def test_ranks_are_those_of_joint_t_tests(view):
    """From 1 + how many are better, by paired t tests at 0.05 over the number of all pairs, to k - how many worse."""
    table = view.values("bound").droplevel("backend", axis=1)
    ranked = [recipe for recipe in table.columns if recipe not in view.apart]
    # Of all pairs of recipes that are ranked.
    level = 0.05 / math.comb(len(ranked), 2)
    better = dict.fromkeys(ranked, 0)
    worse = dict.fromkeys(ranked, 0)
    values = {recipe: table[recipe].to_numpy() for recipe in ranked}
    quantile = stats.t.ppf(1 - level / 2, 2)
    for first, second in itertools.combinations(ranked, 2):
        difference = values[first] - values[second]
        reach = quantile * difference.std(ddof=1) / math.sqrt(3)
        if abs(difference.mean()) > reach:
            lower, higher = (first, second) if difference.mean() < 0 else (second, first)
            better[higher] += 1
            worse[lower] += 1
    expected = {recipe: range(1 + better[recipe], len(ranked) - worse[recipe] + 1) for recipe in ranked}
    assert view.ranks == expected


def test_the_table_is_best_first_with_those_apart_last(view):
    rows = dataset_tables(view)["ranked"]
    assert len(rows) == len(view.recipes)
    assert [bool(row.apart) for row in rows] == [False] * (len(rows) - 2) + [True] * 2
    means = view.values("bound").mean().droplevel("backend")
    ordered = means.drop(list(view.apart)).sort_values().index
    assert view.order[:-2] == list(ordered)
    assert rows[0].behind == "\N{EN DASH}"
    assert rows[0].tied
    assert sum(row.tied for row in rows) == sum(ranks.start == 1 for ranks in view.ranks.values())


def test_recipes_apart_and_why(view):
    reasons = {str(recipe): reason.replace("\N{NO-BREAK SPACE}", " ") for recipe, reason in view.apart.items()}
    assert len(reasons) == 2
    assert reasons.pop(DIVERGED) == "2 of 3 cells diverged"
    ((far, reason),) = reasons.items()
    assert far.endswith("target_mse")
    assert reason == "its test bound of 2.70 × 10⁷ is far behind"  # noqa: RUF001


def test_no_difference_is_taken_with_a_recipe_apart(view):
    """Its size would drown the other numbers of a column."""
    part = dataset_tables(view)
    texts = [value["text"] for row in part["differences"] for value in row["shown"]]
    assert texts
    assert not [text for text in texts if "10⁷" in text]
    medians = {text for row in part["cells"] for text in row["shown"] if "10⁷" in text}
    assert medians == {"2.70 × 10⁷".replace(" ", NBSP)}  # noqa: RUF001


def test_the_answer_is_one_short_sentence(view):
    """It names the best and no more than a few others, and no interval of a recipe that failed."""
    said = [headline([view]), *findings([view])]
    assert "lowest test bound of" in said[1]
    assert f"of {len(view.recipes) - 2} recipes" in said[1]
    assert max(map(len, said)) < 520
    assert "10⁷" not in said[0] + said[1]
    assert "(0.0" not in " ".join(said)


def test_figures_show_the_best_in_hues_of_their_own(view):
    assert len({view.colour(recipe) for recipe in view.leading.recipes}) == len(view.leading.recipes) == len(PALETTE)
    assert view.leading.recipes == view.order[: len(PALETTE)]
    assert [view.leading.colour(recipe) for recipe in view.leading.recipes] == list(PALETTE)
    plots = {plot.name: plot for plot in figures_of([view])}
    assert plots["effects"].caption.startswith(f"The 6 best of {len(view.recipes)} recipes.")
    if "each-recipe" in plots:
        assert len(plots["each-recipe"].panels) == len(view.recipes) - 2
        assert plots["each-recipe"].panels[0].title.startswith("1. ")
        assert float(plots["losses"].data["mean"].max()) < 100  # none far behind stretches an axis
    assert len(plots["effects"].data["first"].unique()) < 10


def test_rank_ranges_by_hand():
    """a beats c and d, b beats d: a is 1 or 2, b 1 to 3, c 2 to 4, d 3 or 4."""
    beaten = {("a", "c"), ("a", "d"), ("b", "d")}
    ranks = rank_ranges("abcd", lambda first, second: (first, second) in beaten)
    assert ranks == {"a": range(1, 3), "b": range(1, 4), "c": range(2, 5), "d": range(3, 5)}


@pytest.mark.parametrize(
    ("means", "far"),
    [
        ({"a": 3.0, "b": 3.1, "c": 2.7e7}, ["c"]),
        ({"a": 3.0, "b": 3.1, "c": 3.9}, []),  # not more than the size of the best
        ({"a": 3.0, "b": 9.0, "c": 20.0}, []),  # no more than ten times as far as the middle
        ({"a": -0.2, "b": -0.1, "c": 0.7}, []),  # within 1 of the best
        ({"a": -0.2, "b": -0.19, "c": 1.9}, ["c"]),
        ({"a": 3.0, "b": 2.7e7}, []),  # of two either may be what was asked
        ({}, []),
    ],
)
def test_far_behind_by_hand(means, far):
    assert far_behind(means) == far


def test_few_recipes_are_all_shown(tmp_path):
    """Not cut: a study of two has no ranking, and none apart."""
    from tests.studies.synthetic_run import make_run

    (view,) = views_of(read_run(make_run(tmp_path / "run", samples=False, samplers=[], curves=False)))
    assert (view.many, view.leading is view, view.apart) == (False, True, {})
    assert dataset_tables(view)["ranked"] == []
    assert np.all([view.colour(recipe) == hue for recipe, hue in zip(view.recipes, PALETTE, strict=False)])
