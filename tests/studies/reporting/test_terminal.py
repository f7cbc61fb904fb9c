"""Text for a terminal is as wide as the terminal, and neither a word nor a number is broken."""

from __future__ import annotations

import re

import pytest

from studies.reporting.page import closing_table
from studies.reporting.terminal import aligned, folded, terminal_width, wrapped
from tests.studies.synthetic_run import make_many, make_run, with_truth

WIDTHS = (60, 80, 100, 140)


def words_of(text: str) -> list[str]:
    return sorted(text.replace("\N{NO-BREAK SPACE}", "_").split())


@pytest.fixture(scope="module", params=["two", "many"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("terminal") / "run"
    if request.param == "many":
        return make_many(path, curves=False, samples=False, samplers=["ancestral-100"])
    return with_truth(make_run(path, samples=False))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_closing_table_fits(folder, width):
    """Every line fits, and every word and number of the unfolded table stands in the folded one, whole."""
    free, fitted = closing_table(folder), closing_table(folder, width)
    assert max(map(len, fitted.splitlines())) <= width
    assert set(words_of(free)) == set(words_of(fitted))
    numbers = re.compile(r"[\d.]+\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}[\d.]+")
    assert sorted(numbers.findall(free)) == sorted(numbers.findall(fitted))


def test_a_table_that_fits_is_left_alone():
    table = [["recipe", "framework", "bound"], ["a", "PyTorch", "3.1"]]
    assert aligned(table, 80) == aligned(table) == ["recipe  framework  bound", "a       PyTorch      3.1"]


def test_columns_are_parted_below_each_other_with_their_names():
    """Headings are folded first, then the columns that do not fit stand in a second block, beside the names again."""
    table = [["of", "in", "a long heading", "another heading"], ["x", "y", "1.234", "5.678"]]
    assert aligned(table, 24) == [
        "of  in   a long  another",
        "        heading  heading",
        "x   y     1.234    5.678",
    ]
    assert aligned(table, 16) == [
        "of  in   a long",
        "        heading",
        "x   y     1.234",
        "",
        "of  in  another",
        "        heading",
        "x   y     5.678",
    ]


def test_sentences_are_wrapped_between_words():
    assert wrapped("difference of 0.1\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.2 here", 16) == [
        "difference of",
        "0.1\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.2 here",
    ]
    assert wrapped("any length at all", None) == ["any length at all"]


def test_an_announcement_is_folded_under_its_own_indent():
    """Each line within the width, its words all there, and nothing moved where no width is known."""
    text = "2 cells on digits, 1 side by side:\n  4 steps of batch 8, then the test bound\n  short"
    assert folded(text, 24).splitlines() == [
        "2 cells on digits, 1",
        "  side by side:",
        "  4 steps of batch 8,",
        "    then the test bound",
        "  short",
    ]
    assert folded(text, None) == text


def test_nothing_is_folded_in_a_file(monkeypatch):
    """Whatever COLUMNS says: it is of the terminal."""
    monkeypatch.setenv("COLUMNS", "70")
    assert terminal_width() is None
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert terminal_width() == 70
