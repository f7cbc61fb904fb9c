"""What a field of settings may hold: values of its type, and of a closed set its names alone.

Command lines and settings files are held to it alike, so that whatever follows can rely on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Names:
    """Annotates a setting with the names it takes: those that a table has when it is asked."""

    known: Collection[str]


TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def field_types(kind: Any) -> dict[str, Any]:
    """The type of every field with its annotations, and with a Literal for text that has `Names`."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _with_names(hints[field.name]) for field in dataclasses.fields(kind)}


def fields_from(values: Mapping[str, Any], kind: Any, names: bool = True) -> dict[str, Any]:
    """`values` as JSON gives them, in the types of the fields. ValueError in one line for the first that is of another.

    `names`: whether text is held to the names that are known now. What another version recorded may have others.
    """
    types = field_types(kind) if names else get_type_hints(kind)
    unknown = sorted(values.keys() - types.keys())
    if unknown:
        raise ValueError(f"settings file has unknown entries {', '.join(unknown)}; it was written by another version")
    return {name: _as_type(f"--{name.replace('_', '-')}", value, types[name]) for name, value in values.items()}


def _with_names(hint: Any) -> Any:
    if get_origin(hint) is not Annotated:
        return hint
    of, *notes = get_args(hint)
    for names in (note for note in notes if isinstance(note, Names)):
        name: Any = Literal[tuple(names.known)]
        of = tuple[name, ...] if get_origin(of) is tuple else name
    return Annotated[(of, *(note for note in notes if not isinstance(note, Names)))]


def _as_type(flag: str, value: Any, hint: Any) -> Any:
    of, parts = get_origin(hint), get_args(hint)
    if of is Annotated:
        return _as_type(flag, value, parts[0])
    if of in (Union, UnionType):
        return None if value is None else _as_type(flag, value, next(part for part in parts if part is not NoneType))
    if of is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{flag} is a list, got {_brief(value)}")
        return tuple(_as_type(flag, item, parts[0]) for item in value)
    if of is Literal:
        if value not in parts:
            raise ValueError(f"{flag} is one of {', '.join(parts)}, got {_brief(value)}")
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) is int:
        value = _as_float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{flag} is {TYPES[hint]}, got {_brief(value)}")
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _brief(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        return "an object" if isinstance(value, dict) else "a list"
    words = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of more than 20 digits"
    return words if len(words) <= 80 else f"{words[:80]}..."
