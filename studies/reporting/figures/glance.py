"""The first samples of the best recipes, small enough to stand beside the verdict."""

from __future__ import annotations

import pandas as pd

from studies.reporting.names import name_of, sampler_name
from studies.reporting.pictures import Strip, examples, real_and_made
from studies.reporting.plotting import Plot
from studies.reporting.points import shared_plane
from studies.reporting.view import View

MOST_RECIPES = 3


def glance(view: View) -> Plot | None:
    """A row of real data and of samples by the main sampler: of one framework, of the best few recipes."""
    strips: list[Strip] = []
    sampler = view.main_sampler
    for recipe in view.order if len(view.recipes) > MOST_RECIPES else view.recipes:
        for backend in view.backends:
            cell = view.cell(recipe, backend)
            arrays = cell.samples() if cell is not None else {}
            drawn = [name for name in arrays if "/" not in name]
            if drawn:
                chosen = sampler if sampler in drawn else drawn[0]
                strips.append((name_of(recipe), view.colour(recipe), arrays[chosen]))
                sampler = chosen
                break
        if len(strips) == MOST_RECIPES:
            break
    if not strips or sampler is None:
        return None
    real, shape = view.run.reference.get("test"), strips[0][2].shape[1:]
    plane = shared_plane(real, shape)
    best = f" of the {len(strips)} best recipes" if len(view.recipes) > len(strips) else ""
    return Plot(
        "first-samples",
        "What they draw",
        f"The first samples{best} ({sampler_name(sampler)}, seed {view.shown_seed}). {_layout(shape)}",
        real_and_made("first samples", real, strips, plane),
        pd.concat([examples(array, plane=plane).assign(sampler=sampler, cell=label) for label, _, array in strips]),
    )


def _layout(shape: tuple[int, ...]) -> str:
    if len(shape) > 1:
        return "One column is one starting noise."
    if shape[0] == 1:
        return "Grey is filled by real test data."
    return "Grey dots are real test data" + (", in the plane of their principal components." if shape[0] > 2 else ".")
