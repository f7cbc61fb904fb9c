"""Locals name the thing they hold: none is called by a word that would fit any value."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EMPTY_NAMES = {"one", "found", "made", "told", "kept", "shown", "thing", "stuff", "res", "tmp"}


def empty_names(source: str) -> Iterator[tuple[int, str]]:
    """The line and name of everything that a module binds by an empty name: locals, arguments, fields, functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in EMPTY_NAMES:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg) and node.arg in EMPTY_NAMES:
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name in EMPTY_NAMES:
            yield node.lineno, node.name


def offences(folder: str) -> list[str]:
    """The empty names in a folder of the project."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"no modules under {folder}"
    return [
        f"{path.relative_to(ROOT).as_posix()}:{line} {name}"
        for path in paths
        for line, name in empty_names(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "found: int = 1",
        "found, other = 1, 2",
        "[found for found in ()]",
        "lambda found: 1",
        "def f(*, found): ...",
        "def found(): ...",
        "if (found := 1): ...",
        "for found in (): ...",
        "try: ...\nexcept OSError as found: ...",
        "with open('x') as found: ...",
    ],
)
def test_every_way_of_binding_is_seen(source):
    assert [name for _, name in empty_names(source)] == ["found"]


def test_reading_a_name_is_no_offence():
    assert not list(empty_names("x = found.made; y['kept'] = shown(told=1)"))


@pytest.mark.parametrize("package", ["core", "backends", "studies"])
def test_locals_name_the_thing(package):
    assert not offences(package)
