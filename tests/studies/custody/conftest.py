"""Two backends without a framework, under the names fake_one and fake_two."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import backends
from tests.studies.custody.command import Commands
from tests.studies.custody.entry import write_points
from tests.studies.custody.fake_backend import TRAINS_POINTS, FakeBackend


def installed_fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeBackend]:
    """Two new ones by name, where `backends.load_backend` finds them."""
    made = {name: FakeBackend(name) for name in ("fake_one", "fake_two")}
    for name, fake in made.items():
        monkeypatch.setitem(backends.BACKENDS, name, lambda: TRAINS_POINTS)
        monkeypatch.setitem(sys.modules, f"backends.{name}", fake)
    return made


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeBackend]:
    return installed_fakes(monkeypatch)


@pytest.fixture
def fake(fakes: dict[str, FakeBackend]) -> FakeBackend:
    return fakes["fake_one"]


@pytest.fixture
def points(tmp_path: Path) -> Path:
    return write_points(tmp_path / "points.npz")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """The real scripts in this process, in a folder that holds points.npz."""
    folder = tmp_path_factory.mktemp("commands")
    write_points(folder / "points.npz")
    return Commands(folder)
