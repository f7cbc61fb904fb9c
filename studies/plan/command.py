"""Command lines and settings files: flags, what is recorded of them, and bad input as one clear line."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import tyro

from studies.store.folder import RunFolder

Flag = tyro.conf.arg


S = TypeVar("S")


def check_at_least(settings: Any, least: Mapping[str, int]) -> None:
    """ValueError for the first setting below its least; None, where it is allowed, is not below anything."""
    for name, lowest in least.items():
        value = getattr(settings, name)
        if value is not None and value < lowest:
            raise ValueError(f"--{name.replace('_', '-')} is at least {lowest}, got {value}")


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
    try:
        values = recorded.read_settings()
        values.pop("study", None)
        return settings_from(values, kind)
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError):
        raise ValueError(f"{recorded.settings} holds no study's settings; give the folder a study wrote") from None


def settings_from(values: Mapping[str, Any], kind: type[S]) -> S:
    known = {field.name for field in dataclasses.fields(cast(Any, kind))}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ValueError(f"settings file has unknown entries {', '.join(unknown)}; it was written by another version")
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    paths = {name: Path(values[name]) for name in ("out", "run") if values.get(name) is not None}
    return kind(**{**values, **lists, **paths})


def guarded(run: Callable[[], int]) -> int:
    """Runs a script's body: bad input ends with one line and status 2, an interruption with a word and status 130."""
    try:
        return run()
    except (ValueError, ImportError) as error:
        exit_with_one_line(error)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


def exit_with_one_line(error: Exception) -> NoReturn:
    """Ends the program as bad input should: one line on standard error, status 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)
