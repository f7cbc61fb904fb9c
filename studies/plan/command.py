"""Command lines and settings files: flags, what is recorded of them, and bad input as one clear line."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

from studies.plan.fields import fields_from
from studies.store.folder import RunFolder

Flag = tyro.conf.arg


S = TypeVar("S")


def check_at_least(settings: Any, least: Mapping[str, int]) -> None:
    """ValueError for the first setting below its least; None, where it is allowed, is not below anything."""
    for name, lowest in least.items():
        value = getattr(settings, name)
        if value is not None and value < lowest:
            raise ValueError(f"--{name.replace('_', '-')} is at least {lowest}, got {value}")


MOST = 10**9
MOST_OF = {
    "seeds": 10_000, "num_steps": 10**6, "widths": 2**14, "mlp_width": 2**16, "blocks_per_level": 1000,
    "mlp_depth": 1000, "jobs": 4096, "threads": 4096,
}  # fmt: skip
"""Beyond what any study uses; a larger number is a slip, which would cost minutes, or the memory, before it shows."""


def check_at_most(settings: Any) -> None:
    """ValueError for the first whole number above its most, MOST where it is not of MOST_OF."""
    for field in dataclasses.fields(settings):
        value, most = getattr(settings, field.name), MOST_OF.get(field.name, MOST)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and number > most:
                raise ValueError(f"--{field.name.replace('_', '-')} is at most {most}, got {number}")


def check_distinct(settings: Any, names: Iterable[str]) -> None:
    """ValueError for the first of these settings that gives a value twice; settings of one value have no two."""
    for name in names:
        values = getattr(settings, name)
        doubled = [value for i, value in enumerate(values) if value in values[:i]] if isinstance(values, tuple) else []
        if doubled:
            raise ValueError(f"--{name.replace('_', '-')} gives {doubled[0]} more than once; give each value once")


def check_own_folder(out: Path, run: Path | None) -> None:
    """ValueError where a study of a finished run would write into that run's folder."""
    if run is not None and out.resolve() == run.resolve():
        raise ValueError(f"--out is a folder of its own, got the run's own folder {out}; give another")


def to_json(settings: Any) -> str:
    """A dataclass of settings as JSON."""
    return json.dumps(dataclasses.asdict(settings), indent=2, default=str) + "\n"


def read_recorded(folder: Path, kind: type[S]) -> S:
    """The settings recorded in a study's folder, of whichever study. A ValueError in one line where there are none."""
    recorded = RunFolder(folder)
    recorded.check()
    values = recorded.read_settings()
    values.pop("study", None)
    try:
        return settings_from(values, kind)
    except ValueError as error:
        raise ValueError(f"{recorded.settings}: {error}") from None


def settings_from(values: Mapping[str, Any], kind: type[S]) -> S:
    """The settings that a file holds, of whichever version. ValueError for unknown entries, and for other types."""
    return kind(**fields_from(values, kind, names=False))


def guarded(run: Callable[[], int]) -> int:
    """Runs a script's body: bad input ends with one line and status 2, an interruption with a word and status 130.

    Bad input is also a folder or a disk that takes no files. SIGTERM, by which schedulers ask a job to end, interrupts
    as Ctrl-C does.
    """
    try:
        with interrupted_by_sigterm():
            return run()
    except (ValueError, ImportError, OSError) as error:
        exit_with_one_line(error)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Raises KeyboardInterrupt on SIGTERM; only a program's main thread may, and elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def exit_with_one_line(error: Exception) -> NoReturn:
    """Ends the program as bad input should: one line on standard error, status 2."""
    line = " ".join(str(error).splitlines()).encode("utf-8", "backslashreplace").decode()  # of any text there may be
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)
