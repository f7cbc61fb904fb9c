"""The figure of the differences with their intervals, and how a contrast is drawn and spoken."""

# ruff: noqa: RUF001
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from studies.reporting.contrasts import Contrast
from studies.reporting.names import name_of, quantity
from studies.reporting.numbers import plus_minus
from studies.reporting.plotting import FAINT, INK, PAPER, Panel, Plot, linear_axis
from studies.reporting.view import View, one_seed
from studies.store.reading import FIRST_STAGE

FITS = 44  # characters of label and number beside each other in a panel


def effects(view: View) -> Plot | None:
    """The differences with their intervals: recipe against recipe above, framework against framework below."""
    sampler, metrics = view.main_sampler, view.sample_metrics
    wanted: list[tuple[str, str | None]] = [("bound", None)]
    wanted += [(metrics[0], sampler)] if sampler else [("epsilon_mse", None)]
    panels, data = [], []
    for metric, drawn_by in wanted:
        contrasts = [c for factor in ("recipe", "backend") for c in view.against_reference(metric, factor, drawn_by)]
        if len(view.recipes) > 2:
            contrasts = [contrast for contrast in contrasts if contrast.within is None]  # the table has the rest
        if not contrasts:
            continue
        about = quantity(metric)
        unit = f" ({about.unit})" if about.unit not in ("", "1") and drawn_by is None else ""
        better = {"lower": " Below zero, the first is better.", "higher": " Above zero, the first is better."}
        labelled = [(_contrast_name(contrast, several=len(view.recipes) > 2), contrast) for contrast in contrasts]
        panels.append(
            Panel(
                f"{about.title[0].upper()}{about.title[1:]}{unit}",
                f"Differences in {about.title} with 95 % intervals:"
                f" {spoken_contrasts(labelled)}.{better.get(about.direction or '', '')}",
                draw_effects(view, labelled, about.direction),
                height=46 + 36 * len(contrasts),
            )
        )
        rows = [row for contrast in contrasts for row in _contrast_rows(contrast)]
        data += [row | {"metric": metric, "sampler": drawn_by} for row in rows]
    if not panels:
        return None
    return Plot(
        "effects",
        "How sure are the differences?",
        f"Bars are 95 % intervals ({'two-stage ' if FIRST_STAGE in view.rows.attrs else ''}Student’s t, paired by"
        " seed); small dots are the seeds. Coloured rows compare recipes, grey rows frameworks, on one scale. A bar"
        " that crosses the zero line is a difference not resolved."
        + (f" Recipes are shown less the {name_of(view.recipes[0])}." if len(view.recipes) > 2 else "")
        + one_seed(view),
        panels,
        pd.DataFrame(data),
    )


def _contrast_rows(contrast: Contrast) -> list[dict[str, object]]:
    interval = contrast.interval()
    within = "pooled" if contrast.within is None else contrast.within
    same = {"factor": contrast.factor, "first": contrast.first, "second": contrast.second, "within": within}
    ends = {"low": interval.low, "high": interval.high}
    return [{**same, "seed": seed, "difference": value, **ends} for seed, value in contrast.differences.items()]


def _contrast_name(contrast: Contrast, several: bool = False) -> str:
    """ "posterior KL − epsilon MSE, Keras".

    Where several recipes are all compared with the same one, that one is named in the caption, and not here.
    """
    shared = several and contrast.factor == "recipe"
    names = name_of(contrast.first) if shared else f"{name_of(contrast.first)} − {name_of(contrast.second)}"
    return f"{names}, {name_of(contrast.within)}" if contrast.within is not None else names


def spoken_contrasts(labelled: Sequence[tuple[str, Contrast]]) -> str:
    return "; ".join(f"{label} {plus_minus(contrast.interval(), signed=True)}" for label, contrast in labelled)


def draw_effects(view: View, labelled: Sequence[tuple[str, Contrast]], direction: str | None) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        for i, (label, contrast) in enumerate(labelled):
            y, interval = -i - 0.16, contrast.interval()
            colour = view.colour(contrast.first) if contrast.factor == "recipe" else FAINT
            bounds = (interval.low, interval.high) if np.isfinite(interval.half_width) else (interval.estimate,) * 2
            thick = 4.5 if contrast.within is None else 2
            ax.plot([0, 0], [y - 0.17, y + 0.17], color=INK, linewidth=1.2)  # beside the bars only, clear of the words
            ax.plot(bounds, [y] * 2, color=colour, linewidth=thick, solid_capstyle="butt")
            seeds = contrast.differences
            ax.plot(seeds, [y - 0.11] * len(seeds), ".", color=colour, markersize=4, alpha=0.7)
            within = contrast.within if contrast.factor == "recipe" else None
            marker = "o" if within is None else view.marker(within)
            ax.plot(interval.estimate, y, marker, color=colour, markersize=7, markeredgecolor=PAPER)
            weight = "bold" if contrast.within is None else "normal"
            across, text = ax.get_yaxis_transform(), plus_minus(interval, signed=True)
            size = min(10.5, 10.5 * FITS / (len(label) + len(text)))
            ax.text(0, y + 0.36, label, transform=across, va="center", size=size, weight=weight)
            ax.text(1, y + 0.36, text, transform=across, va="center", ha="right", size=10.5, weight=weight)
        ax.set_ylim(-len(labelled) + 0.55, 0.55)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.margins(x=0.08)
        linear_axis(ax, "x", 4)
        better = {"lower": "← first is better", "higher": "first is better →"}
        if direction:
            ax.set_xlabel(better[direction], loc="left" if direction == "lower" else "right")

    return draw
