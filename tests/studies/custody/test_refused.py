"""Refused: what no study could use ends with one line and status 2, before a cell starts and with nothing touched.

And beside it what looks alike, but is to end well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from studies.cell import stages
from studies.plan.settings import read_settings
from studies.store.cells import FACTORS
from studies.store.folder import RunFolder
from tests.studies.custody.command import Commands, Seen
from tests.studies.custody.entry import make_cell, write_points
from tests.studies.custody.fake_backend import mean_weight

Refusal = Callable[..., str]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    folder = tmp_path_factory.mktemp("refused")
    write_points(folder / "points.npz")
    return Commands(folder)


@pytest.fixture
def refusal(commands: Commands, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """The one line of a study that is refused."""

    def refused(changes: str, **options: object) -> str:
        before = everything(commands.folder)
        capsys.readouterr()
        return reason_of(commands.study(changes, execute=False, **options), before, commands.folder, capsys)

    return refused


def reason_of(seen: Seen, before: dict[Path, int], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused command said: one line, with status 2, no process started and no file touched."""
    lines = capsys.readouterr().err.splitlines()
    assert (seen.status, len(lines), seen.processes) == (2, 1, []), lines
    assert everything(folder) == before
    return lines[0].removeprefix("error: ")


def everything(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# Factors.

MANY = [factor.setting for factor in FACTORS if factor.name not in ("dataset", "seed")]


@pytest.mark.parametrize("setting", MANY)
def test_a_factors_value_given_twice(refusal, setting):
    """Of whichever factor there is."""
    value = {"objectives": "hybrid", "backends": "fake_two", "predictions": "v", "variances": "beta",
             "schedules": "linear", "timesteps": "stratified", "dtypes": "float64"}[setting]  # fmt: skip
    said = refusal(f"--{setting} {value} {value}")
    assert said == f"--{setting} gives {value} more than once; give each value once"


def test_one_schedule_by_two_names(refusal):
    said = refusal("--num-steps 12 --schedules cosine linear cosine:12")
    assert said == "--schedules gives one schedule by two names, cosine and cosine:12; give one of them"
    assert "learned and learned-linear-scaled:30" in refusal(
        "--num-steps 30 --objectives posterior_kl --schedules learned learned-linear-scaled:30"
    )


def test_seeds_until_where_cells_diverged(commands):
    """No seeds are added, as there is no spread to ask for them; the study ends as any other."""

    def diverging(weights, process, draws):
        loss = np.full(len(draws.t), np.nan if mean_weight(weights) > 0.9 else 1.0)
        return loss, loss

    words = "--objectives epsilon_mse posterior_kl --seeds 2 --flow-examples 0 --full-samples 0 --seeds-until 0.1"
    seen = commands.study(words, losses=diverging)
    assert set(seen.rows[seen.rows["metric"] == "diverged"]["objective"]) == {"posterior_kl"}
    assert seen.status == 0
    *_, closing, report = seen.said.splitlines()
    assert closing.startswith("no seeds were added: 2 of 4 cells have no finite bound, as points-")
    assert report == f"report: {seen.out / 'report.html'}"


def test_fewer_seeds_than_a_run_has(commands):
    """They run no cell, and results and settings stay what they were, byte for byte; the command says so.

    A seed asked for in an earlier command has been paid for, and an interval without it would be another one.
    """
    words = f"--objectives epsilon_mse posterior_kl --backends fake_two fake_one --out {commands.folder / 'fewer'}"
    first = commands.study(f"{words} --seeds 3")
    before = {name: (first.out / name).read_bytes() for name in ("results.csv", "settings.json")}
    for seeds, kept in ((1, 8), (2, 4)):
        seen = commands.study(f"{words} --seeds {seeds}")
        assert seen.processes == []
        assert {name: (seen.out / name).read_bytes() for name in before} == before
        assert (
            f"\n  {kept} more cells of an earlier command are finished there, and stay in results and rep" in seen.said
        )
    assert "more cells" not in first.said + commands.study(f"{words} --seeds 3").said


# Data.


@pytest.fixture
def begun(commands: Commands, tmp_path: Path) -> Seen:
    """A run of one seed on data in the test's own folder."""
    return commands.study(f"--dataset {write_points(tmp_path / 'mine.npz')} --out {tmp_path / 'run'} --flow-examples 0")


def alter(path: Path, part: str) -> None:
    """Changes the last digit of one number."""
    arrays = dict(np.load(path))
    arrays[part].flat[-1] = np.nextafter(arrays[part].flat[-1], np.inf)
    np.savez(path, **arrays)


@pytest.mark.parametrize("part", ["train", "test"])
def test_data_that_changed_between_two_commands(commands, begun, tmp_path, capsys, part):
    """By the run's own command and by the studies of a finished run; with the data as they were all goes on."""
    data, words = tmp_path / "mine.npz", f"--dataset {tmp_path / 'mine.npz'} --out {begun.out} --flow-examples 0"
    as_it_was = data.read_bytes()
    alter(data, part)
    before = everything(tmp_path)
    studies = {
        "compare_objectives": None,
        "compare_samplers": ["--run", str(begun.out), "--out", str(tmp_path / "s"), "--steps", "4"],
        "compare_estimators": ["--run", str(begun.out), "--out", str(tmp_path / "e"), "--examples", "6"],
        "compare_throughput": ["--run", str(begun.out), "--out", str(tmp_path / "t")],
    }
    for script, flags in studies.items():
        capsys.readouterr()
        if flags is None:
            seen = commands.study(f"{words} --seeds 2", execute=False)
        else:
            seen = commands.run(script, flags, execute=False)
        said = reason_of(seen, before, tmp_path, capsys)
        assert said.startswith(f"{begun.out} was begun with other data than {data} holds now (digest "), script
        assert said.endswith("restore the data, or begin a new run with --out"), script
    data.write_bytes(as_it_was)
    assert set(commands.study(f"{words} --seeds 2").rows["seed"]) == {0, 1}


def test_data_that_changed_while_a_study_runs(begun, tmp_path):
    """A cell that starts later is told, as one that is resumed."""
    alter(tmp_path / "mine.npz", "train")
    with pytest.raises(ValueError, match="was begun with other data"):
        stages.run_group(begun.out, [make_cell("mine", seed=1)], read_settings(begun.out), lambda *_, **__: None)


def test_a_run_without_a_digest_goes_on(commands, begun, tmp_path):
    reference = RunFolder(begun.out).reference
    examples = dict(np.load(reference))
    assert len(str(examples.pop("digest"))) == 64
    np.savez_compressed(reference, **examples)
    alter(tmp_path / "mine.npz", "train")
    words = f"--dataset {tmp_path / 'mine.npz'} --out {begun.out} --flow-examples 0"
    assert set(commands.study(f"{words} --seeds 2").rows["seed"]) == {0, 1}
