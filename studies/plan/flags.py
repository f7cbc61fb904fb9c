"""A dataclass of settings as a command line: flags in groups, starting values from a settings file or a preset."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import tyro

from studies.plan.command import Flag
from studies.plan.fields import field_types, fields_from
from studies.store.folder import RunFolder, read_json

S = TypeVar("S")

CONFIG = Annotated[
    Path | None,
    Flag(
        help="starting values: a run's folder, or its file of settings; a preset goes over them, and the other flags"
        " over both"
    ),
]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LONGEST = 400
"""Characters of a bad command line that are repeated."""


def parse_flags(
    kind: type[S],
    argv: Sequence[str],
    description: str,
    groups: Mapping[str, str],
    base: Mapping[str, Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> S:
    """The settings of a command line, of known types and names; bad words are a ValueError in one line.

    `groups`: the heading of each group, and the first of the fields under it. Over a study's own defaults, `base`, go
    the settings file that --config names, the preset that --preset names, and the other flags.
    """
    start = dict(base or {})
    if config := _last(argv, "--config"):
        start = {**start, **_configured(Path(config), kind)}
    if presets is not None and (preset := _last(argv, "--preset")) is not None:
        if preset not in presets:
            raise ValueError(f"unknown preset {preset!r}; known: {', '.join(presets)}")
        start = {**start, **presets[preset], "preset": preset}
    default = dataclasses.asdict(cast(Any, kind(**start)))
    command = _grouped(kind, groups, default)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = tyro.cli(command, args=list(argv), description=description, config=(tyro.conf.OmitArgPrefixes,))
    except SystemExit as ended:
        if ended.code:
            raise ValueError(one_line(said.getvalue())) from None
        raise
    given = {name: value for group in groups for name, value in vars(getattr(parsed, group)).items()}
    given.pop("config")
    return kind(**given)


def _grouped(kind: Any, groups: Mapping[str, str], default: Mapping[str, Any]) -> Any:
    """A dataclass with one of each group's flags for every heading; --config is the last of the first."""
    members: dict[str, list[Any]] = {}
    for name, hint in field_types(kind).items():
        heading = next((heading for heading, first in groups.items() if first == name), None)
        into = members.setdefault(heading, []) if heading else list(members.values())[-1]
        into.append((name, hint, dataclasses.field(default=default[name])))
    next(iter(members.values())).append(("config", CONFIG, dataclasses.field(default=None)))
    classes = {heading: dataclasses.make_dataclass(heading, fields) for heading, fields in members.items()}
    fields = [
        (name, Annotated[of, Flag(help="")], dataclasses.field(default_factory=of)) for name, of in classes.items()
    ]
    return dataclasses.make_dataclass("Flags", fields)


def _configured(path: Path, kind: Any) -> dict[str, Any]:
    """The settings in a file, or in a run's folder."""
    path = RunFolder(path).settings if path.is_dir() else path
    try:
        values = read_json(path)
    except ValueError as error:
        raise ValueError(f"--config {error}") from None
    except OSError as error:
        raise ValueError(f"--config {path}: {error.strerror}; give a run's folder, or its file of settings") from None
    study = values.pop("study", None)
    if not values:
        raise ValueError(f"--config {path} holds no settings; give a run's folder, or its file of settings")
    try:
        return fields_from(values, kind)
    except ValueError as error:
        raise ValueError(f"--config {path}{f', of {study}' if study else ''}: {error}") from None


def _last(argv: Sequence[str], flag: str) -> str | None:
    """The value of a flag given as "--flag value" or "--flag=value", the last of them; None where it is not given."""
    value = None
    for i, word in enumerate(argv):
        if word == flag:
            value = argv[i + 1] if i + 1 < len(argv) else None
        elif word.startswith(f"{flag}="):
            value = word.removeprefix(f"{flag}=")
    return value


def one_line(box: str) -> str:
    """The first paragraph of what tyro says in a box, drawn in colours, in lines, or in ASCII."""
    _, *lines = (line.strip(" │") for line in COLOUR.sub("", box).strip().splitlines() or [""])
    if lines and _is_rule(lines[0]):
        del lines[0]
    paragraph = itertools.takewhile(lambda line: line and not _is_rule(line), lines)
    text = (" ".join(paragraph) or " ".join(box.split())).rstrip(".")
    return f"{text if len(text) <= LONGEST else text[:LONGEST] + '...'}; --help lists the flags and what they take"


def _is_rule(line: str) -> bool:
    return bool(line) and set(line) <= set("─-╰╯")
