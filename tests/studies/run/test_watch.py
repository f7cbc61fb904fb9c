"""What a person sees while a study runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import itertools
import re

import pytest
from rich.console import Console

from studies.run.watch import Watch
from studies.store.cells import Cell
from studies.store.files import row

CELLS = [Cell("digits", "linear", "epsilon", "beta_tilde", "epsilon_mse", "torch", seed) for seed in range(3)]
NEWS = {
    "stage": "train", "done": 500, "total": 3500, "loss": 0.0812,
    "rows": [
        row("train_epsilon_mse", 0.0812, "per dim", step=500),
        row("train_posterior_kl", 3.312, "bits/dim", step=500),
        row("step_seconds", 0.0357, "s", step=500),
    ],
}  # fmt: skip


def watched(cells: list[Cell], terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    with Watch(CELLS, cells, console=console) as watch:
        watch.started(cells[0])
        watch.progress(cells[0], NEWS)
        watch.refresh()
        watch.bar.refresh()
        watch.ended(cells[0], None)
        watch.started(cells[1])
        watch.progress(cells[1], {"stage": "bound", "done": 1, "total": 4, "loss": None})
        watch.ended(cells[1], "ValueError: broken")
    return out.getvalue()


def test_a_terminal_shows_stage_losses_speed_and_the_time_left():
    shown = watched(CELLS, terminal=True)
    assert "train 500/3500, MSE 0.0812, KL 3.31, 28 steps/s" in shown
    assert "whole study, 3 cells" in shown
    assert "left" in shown
    assert f"[2/3] {CELLS[1].id}: failed: ValueError: broken" in shown


NAMES = ("linear", "cosine"), ("epsilon", "x_0"), ("epsilon_mse", "posterior_kl"), ("torch", "keras"), range(2)
GRID = [
    Cell("digits", schedule, prediction, "beta_tilde", objective, backend, seed)
    for schedule, prediction, objective, backend, seed in itertools.product(*NAMES)
]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("cells", [CELLS, GRID], ids=["three", "grid"])
def test_bars_and_times_fit_the_terminal(cells, width):
    """No line is longer than the terminal, none is cut, and each has its bar, its stage and both times whole."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    with Watch(cells, cells, console=console) as watch:
        for cell in cells[-2:]:
            watch.started(cell)
            watch.progress(cell, NEWS)
        watch.refresh()
        live = rendered(watch, width)
        watch.ended(cells[-1], None)
    assert len(live) == 3
    for line in live:
        assert len(line) <= width
        assert "\N{HORIZONTAL ELLIPSIS}" not in line
        assert re.search("\u2501{3}.* 0:00:0. left .:..:..$", line)
    assert all("train 500/3500" in line for line in live[1:])
    assert cells is GRID or ("KL 3.31" in live[1]) == (width >= 80)  # names leave room for it
    assert len({line.partition("\u2501")[0] for line in live}) == 3  # each by a name of its own


def rendered(watch: Watch, width: int) -> list[str]:
    """The lines of the bars as they stand."""
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=width).print(watch.bar.get_renderable())
    return [line.rstrip() for line in re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", out.getvalue()).splitlines()]


def test_the_last_frame_says_what_became_of_every_cell():
    """Three cells of which one failed and one was stopped: nothing is left running, and the counts are those."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Watch(CELLS, CELLS, console=console) as watch:
        for cell in CELLS:
            watch.started(cell)
        watch.ended(CELLS[0], None)
        watch.ended(CELLS[1], "ValueError: broken")
    (last,) = rendered(watch, 80)
    assert "1/3 done, 1 failed" in last


@pytest.mark.parametrize("todo", [3, 2])
def test_plain_lines_where_there_is_no_terminal(capsys, todo):
    """One line a cell, no control characters, and none for progress."""
    assert watched(CELLS[3 - todo :], terminal=False) == ""
    lines = capsys.readouterr().out.splitlines()
    expected = [] if todo == 3 else ["1 of 3 cells are finished already and will not run again"]
    assert lines[: len(expected)] == expected
    assert len(lines) == 2 + len(expected)
    assert lines[-1].startswith(f"[2/{todo}] ")
    assert "\x1b" not in "".join(lines)
