"""The looks of lines: told apart without colour, on paper, and where two of them coincide."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from studies.reporting.plotting import MARKERS, PALETTE, PAPER, line_look, short


def lightness(colour: str) -> float:
    """CIE 1976 L* of an sRGB colour, 0 to 100: how a grey print shows it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 216 / 24389 else luminance * 24389 / 27


def test_recipes_are_told_apart_without_colour():
    """Each hue has its own line style and its own grey; the two of the default study differ most in grey."""
    looks = [line_look(recipe, 0, 60) for recipe in range(len(PALETTE))]
    assert len({str(look["linestyle"]) for look in looks}) == len(PALETTE)
    greys = [lightness(look["color"]) for look in looks]
    assert min(abs(a - b) for a, b in itertools.combinations(greys, 2)) > 5
    assert abs(greys[0] - greys[1]) > 20
    assert max(greys) < lightness(PAPER) - 25


def test_a_framework_changes_the_mark_alone():
    first, second = (line_look(1, framework, 60) for framework in (0, 1))
    assert {name for name in first if first[name] != second[name]} == {"marker", "markevery", "markerfacecolor"}
    assert len({line_look(0, framework, 60)["marker"] for framework in range(len(MARKERS))}) == len(MARKERS)


@pytest.mark.parametrize("points", [1, 2, 3, 8, 60, 1000])
def test_marks_of_coinciding_lines_do_not_hide_each_other(points):
    """Both frameworks have at least one mark, and from two points on no mark of one lies on one of the other."""
    starts_and_steps = [line_look(0, framework, points)["markevery"] for framework in (0, 1)]
    first, second = (set(range(start, points, step)) for start, step in starts_and_steps)
    assert first
    assert second
    assert points == 1 or not first & second


def test_ticks_are_written_apart():
    """Ticks at -1.5e-5, -1e-5 and 0 have three labels."""
    minus = "\N{MINUS SIGN}"
    labels = [short(value) for value in (-1.5e-5, -1e-5, 0.0, 2e6)]
    assert labels == [
        f"{minus}1.5e{minus}5",
        f"{minus}1e{minus}5",
        "0",
        "2e6",
    ]
