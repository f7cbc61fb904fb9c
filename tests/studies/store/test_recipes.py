"""Recipes are values: they sort and are written as the text that runs' files have always had."""

from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from studies.store.recipes import Recipe, recipes_of

FACTORS = ("schedule", "prediction", "objective")
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=4)
several = st.lists(st.tuples(names, names, names), min_size=1, max_size=8, unique=True)


@given(several)
def test_recipes_sort_as_their_text_does(levels):
    """Tables made before recipes were values have their columns in the order of the text."""
    recipes = [Recipe(FACTORS, each) for each in levels]
    assert [str(recipe) for recipe in sorted(recipes)] == sorted(" · ".join(each) for each in levels)


@given(several)
def test_a_table_by_recipe_is_the_one_by_text(levels):
    """Columns, their order and what is written to a file; every recipe has two seeds, the last row comes first."""
    rows = pd.DataFrame(
        [{**dict(zip(FACTORS, each, strict=True)), "seed": seed, "value": 10.0 * i + seed}
         for i, each in enumerate(levels) for seed in range(2)]
    )[::-1]  # fmt: skip
    by_value = rows.assign(recipe=recipes_of(rows, FACTORS))
    by_text = rows.assign(recipe=[" · ".join(each) for each in rows[list(FACTORS)].itertuples(index=False, name=None)])
    first, second = (
        frame.pivot(index="seed", columns="recipe", values="value").to_csv() for frame in (by_value, by_text)
    )
    assert first == second
    assert by_value.to_csv() == by_text.to_csv()
    assert by_value["recipe"].nunique() == len(levels)


def test_what_two_recipes_differ_in():
    first, second = Recipe(FACTORS, ("linear", "x_0", "hybrid")), Recipe(FACTORS, ("cosine", "x_0", "target_mse"))
    assert first.differing(second) == second.differing(first) == ("schedule", "objective")
    assert first.differing(first) == ()
    assert [second.level(factor) for factor in FACTORS] == ["cosine", "x_0", "target_mse"]
    assert str(second) == "cosine · x_0 · target_mse"


def test_levels_are_text_and_rows_keep_their_index():
    """A level is what a file holds of it, also of factors that are numbers."""
    rows = pd.DataFrame({"objective": ["hybrid", "hybrid"], "seed": [0, 1]}, index=[7, 3])
    recipes = recipes_of(rows, ["objective", "seed"])
    assert recipes.to_dict() == {
        7: Recipe(("objective", "seed"), ("hybrid", "0")),
        3: Recipe(("objective", "seed"), ("hybrid", "1")),
    }
    assert len(recipes_of(rows.iloc[:0], ["objective"])) == 0
