"""The schedules of a study by name: those of `core.schedules`, and ones learned with the network.

"learned" starts from linear-scaled, "learned-NAME" from the schedule of that name; ":T" behind any of them is a length
of its own. What a cell has learned lies in its folder as schedule.csv, in numbers that read back exactly: whatever
opens the cell finds the schedule its network was trained on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from core.learned_schedule import LearnedSchedule
from core.schedules import Schedule, from_log_snr, make_schedule
from studies.plan.command import MOST_OF
from studies.store.files import write_text

LEARNED = "learned"
LEARNED_START = "linear-scaled"
FILE = "schedule.csv"
COLUMNS = ("t", "start_log_snr", "start_beta", "log_snr", "beta")
MOST_STEPS = MOST_OF["num_steps"]
MOST_LEFT = 0.01
"""The largest alpha_bar_T of a chain that ends in noise.

Above it x_T keeps more than a tenth of x_0, which samples, begun from pure noise, do without; and the prior term costs
data of unit scale alpha_bar_T / 2 nats, more than 0.007 bits/dim.
"""
FIRST_REACH = LAST_REACH = 3.0
"""How far, in nats, log SNR may move at the ends; at t = 1 not at all where the data has a density (see below)."""


def is_learned(words: str) -> bool:
    name = words.partition(":")[0]
    return name == LEARNED or name.startswith(f"{LEARNED}-")


def schedule_of(words: str, num_steps: int) -> Schedule:
    """The schedule called "name" with T = num_steps, or "name:T" with a length of its own; a learned one's start."""
    _, name, length = _parts(words, num_steps)
    return make_schedule(name, length)


def left_at_the_end(words: str, num_steps: int) -> str:
    """A remark on a schedule, as its cells begin, whose chain does not end in noise; empty where it does."""
    schedule = schedule_of(words, num_steps)
    alpha_bar = float(schedule.alpha_bar[-1])
    if alpha_bar <= MOST_LEFT:
        return ""
    begins_or_ends = "starts" if is_learned(words) else "ends"
    return (
        f"{words} with T = {schedule.num_steps} {begins_or_ends} at alpha_bar_T = {alpha_bar:.3g}: x_T is not noise, "
        "and samples, which start from noise, are off; cosine ends in noise at any T"
    )


def length_of(words: str, num_steps: int) -> int:
    """T of the schedule called so, where T = num_steps unless it has a length of its own."""
    return _parts(words, num_steps)[2]


def check_different(schedules: Iterable[str], num_steps: int) -> None:
    """ValueError for two names of one schedule, as "linear" and "linear:1000" are where T = num_steps is 1000."""
    known: dict[tuple[bool, str, int], str] = {}
    for words in schedules:
        same = known.setdefault(_parts(words, num_steps), words)
        if same != words:
            raise ValueError(f"--schedules gives one schedule by two names, {same} and {words}; give one of them")


def _parts(words: str, num_steps: int) -> tuple[bool, str, int]:
    """Whether the schedule is learned, the name of the one it is or starts from, and T."""
    name, _, length = words.partition(":")
    if length and not (length.isascii() and length.isdigit()):
        raise ValueError(f'a schedule is given as "name" or "name:T", as in "cosine:250", got {words!r}')
    learned = is_learned(words)
    if learned:
        name = name.removeprefix(LEARNED).removeprefix("-") or LEARNED_START
    if len(length) > len(str(MOST_STEPS)) or int(length or num_steps) > MOST_STEPS:
        raise ValueError(f"a schedule has at most {MOST_STEPS} steps, got {words!r}")
    return learned, name, int(length or num_steps)


def learned_schedule(words: str, num_steps: int, levels: int | None) -> LearnedSchedule | None:
    """What is trained beside the network; None for a schedule that is not learned.

    The first step's log SNR is held still for continuous data (no `levels`), as Sohl-Dickstein et al. (2015) hold
    beta_1: on a finite training set the density of its last, tiny, step has no bound.
    """
    if not is_learned(words):
        return None
    first_reach = 0.0 if levels is None else FIRST_REACH
    return LearnedSchedule(schedule_of(words, num_steps), first_reach=first_reach, last_reach=LAST_REACH)


def write_schedule(folder: Path, start: Schedule, learned: Schedule) -> None:
    """Writes schedule.csv: log SNR and beta by t, as learned and as at the start."""
    columns = (np.arange(start.num_steps + 1), start.log_snr, start.beta, learned.log_snr, learned.beta)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([int(t), *map(float, values)] for t, *values in list(zip(*columns, strict=True))[1:])
    write_text(folder / FILE, text.getvalue())


def read_schedule(folder: Path, start: Schedule) -> Schedule:
    """The schedule in a cell's schedule.csv."""
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {FILE} of its learned schedule; the cell has not finished training")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        log_snr = [float(row["log_snr"]) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: expected a column log_snr of numbers; was it written by a study?") from None
    return from_log_snr(log_snr, f"learned from {start.name}")
