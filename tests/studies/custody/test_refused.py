"""Refused: what no study could use ends with one line and status 2, before a cell starts and with nothing touched.

And beside it what looks alike, but is to end well.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.capabilities import Capabilities
from backends.networks import UNetSettings
from studies.cell import stages
from studies.plan import machine
from studies.plan.command import guarded
from studies.plan.settings import read_settings
from studies.store.cells import FACTORS
from studies.store.folder import RunFolder
from studies.store.measured import record_measured
from studies.store.reading import read_run
from tests.studies.custody.command import Commands, Seen
from tests.studies.custody.entry import make_cell, write_points
from tests.studies.custody.fake_backend import mean_weight

Refusal = Callable[..., str]


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


@pytest.mark.parametrize(
    ("flag", "named"), [("--scale standard", "scale 'none'"), ("--test-examples 4", "test_examples")]
)
def test_a_run_continued_with_another_choice_of_its_data(commands, begun, tmp_path, capsys, flag, named):
    """The file is what it was: the setting is named, and nobody is told to restore data."""
    before = everything(tmp_path)
    capsys.readouterr()
    words = f"--dataset {tmp_path / 'mine.npz'} --out {begun.out} --flow-examples 0 {flag}"
    said = reason_of(commands.study(words, execute=False), before, tmp_path, capsys)
    assert said.startswith(f"{begun.out} holds a run with other settings ({named}"), said


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


@pytest.mark.parametrize(
    ("script", "flags"), [("compare_samplers", "--steps 4 --samplers ddim --samples 20"), ("compare_estimators", "")]
)
def test_a_run_trained_anew_since_it_was_measured(commands, begun, tmp_path, capsys, script, flags):
    """Is told from the run that was measured, also where measuring did not end; with its network back all goes on."""
    out = tmp_path / "measured"
    words = ["--run", str(begun.out), "--out", str(out), "--jobs", "1", *flags.split()]
    if script == "compare_samplers":
        commands.run(script, words)
    else:
        with pytest.raises(AssertionError, match="the model has diverged"):
            commands.run(script, words, losses=lambda weights, process, draws: (np.inf * draws.t, np.inf * draws.t))
    (cell,) = RunFolder(begun.out).every_cell()
    network = cell.checkpoint.read_bytes()
    assert RunFolder(out).cell(cell.id).measured.read_text() == hashlib.sha256(network).hexdigest() + "\n"
    cell.checkpoint.write_bytes(network[:-1] + bytes([network[-1] ^ 1]))
    before = everything(tmp_path)
    said = reason_of(commands.run(script, words, execute=False), before, tmp_path, capsys)
    assert said.startswith(f"{begun.out} was trained anew since {out} measured {cell.id} (digest ")
    assert said.endswith("; give another folder with --out")
    cell.checkpoint.write_bytes(network)
    RunFolder(out).cell(cell.id).rows.unlink(missing_ok=True)
    assert commands.run(script, words, execute=False).cells == [cell.id]


def test_a_run_trained_anew_while_it_is_measured(begun, tmp_path):
    """A cell that goes on is told, as one that is finished."""
    (cell,) = RunFolder(begun.out).every_cell()
    record_measured(tmp_path / "s", begun.out, cell.id)
    record_measured(tmp_path / "s", begun.out, cell.id)
    cell.checkpoint.write_bytes(b"another")
    with pytest.raises(ValueError, match="was trained anew since"):
        record_measured(tmp_path / "s", begun.out, cell.id)


# Files.


def written(path: Path, **arrays: Any) -> Path:
    with path.open("wb") as file:  # numpy would add another ending
        np.savez(file, **arrays)
    return path


X = np.linspace(-1, 1, 24).reshape(6, 4)
IMAGES = X.reshape(6, 2, 2, 1)


def test_files_that_are_no_data(refusal, commands, tmp_path):
    np.save(tmp_path / "array.npy", X)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    whole = written(tmp_path / "whole.npz", train=X, test=X).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.npz").write_bytes(whole.replace(X.tobytes()[40:80], bytes(40)))
    (tmp_path / "folder.npz").mkdir()
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("train.npy", "1, 2")
        archive.writestr("test.npy", "3, 4")
    assert refusal(f"--dataset {tmp_path / 'array.npz'}").endswith(
        "array.npz holds one array, as an .npy file does; write it with numpy.savez(path, train=..., test=...)"
    )
    for name in ("empty", "cut", "broken"):
        said = refusal(f"--dataset {tmp_path / name}.npz")
        assert said.startswith(f"{tmp_path / name}.npz is not a readable .npz file ("), said
        assert said.endswith("; write it with numpy.savez")
    assert "train set in" in refusal(f"--dataset {tmp_path / 'text.npz'}")
    assert refusal(f"--dataset {tmp_path / 'folder.npz'}").startswith("unknown dataset")


@pytest.mark.parametrize(
    ("shape", "test_shape"), [((6, 2, 2, 0), (6, 2, 2, 0)), ((6, 0), (6, 0)), ((6, 0, 2), (6, 0, 2)), ((6, 4), (0, 4))]
)
def test_examples_without_numbers(refusal, tmp_path, shape, test_shape):
    data = written(tmp_path / "none.npz", train=np.zeros(shape), test=np.zeros(test_shape))
    assert "has none" in (said := refusal(f"--dataset {data}")) or "has at least 2 examples" in said


def test_a_name_that_makes_no_folder(refusal, commands, tmp_path):
    """A cell's folder is called by all that it is; one byte less, and the study runs."""
    rest = len("-cosine-epsilon-beta_tilde-epsilon_mse-fake_one-0")
    words = "--flow-examples 0 --full-samples 0"
    fits, does_not = (written(tmp_path / f"{'x' * (255 - rest + more)}.npz", train=X, test=X) for more in (0, 1))
    said = refusal(f"--dataset {does_not}")
    assert said.startswith(
        "a cell's folder has a name of at most 255 bytes, got 256 of xxxxxxxxxxxxxxxxxxxx...; give th"
    )
    assert commands.study(f"--dataset {fits} {words}").status == 0
    assert "File name too long" in refusal(f"--dataset {tmp_path / ('x' * 300)}.npz")
    assert "File name too long" in refusal(f"--out {tmp_path / ('x' * 300)}")


@pytest.mark.parametrize("name", ["007", "1e3", "nan", "NA", "True", "2020-01-01", "-"])
def test_the_name_of_data_is_text(commands, tmp_path, name):
    """Wherever rows are read again: results.csv, a run's rows, a folder that older rows were written into."""
    data = written(tmp_path / f"{name}.NPZ", train=X, test=X)
    words = f"--dataset {data} --objectives epsilon_mse posterior_kl --seeds 2 --flow-examples 0 --full-samples 0"
    seen = commands.study(f"{words} --seeds-until 9")
    assert "bits/dim (95 %, 2 seeds" in seen.said
    lines = RunFolder(seen.out).results.read_text().splitlines()[1:]
    assert {line.split(",")[0] for line in lines} == {name}
    run = read_run(seen.out)
    assert set(run.rows["dataset"]) == {name} == {cell.factors["dataset"] for cell in run.cells}


# Numbers.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--widths", "widths are of 1 or more levels and at least 1 each, got ()"),
        ("--widths 0", "widths are of 1 or more levels and at least 1 each, got (0,)"),
        ("--widths 8 -8", "widths are of 1 or more levels and at least 1 each, got (8, -8)"),
        ("--widths 1 --norm-groups 1", "the first of the widths is even, sines and cosines of t in pairs, got (1,)"),
        ("--widths 9 --norm-groups 3", "the first of the widths is even, sines and cosines of t in pairs, got (9,)"),
        ("--widths 99999999", "--widths is at most 16384, got 99999999"),
        ("--norm-groups 0", "norm_groups is at least 1, got 0"),
        ("--norm-groups -8", "norm_groups is at least 1, got -8"),
        ("--norm-groups 3", "norm_groups 3 divides every width, got widths (16, 32)"),
    ],
)
def test_networks_that_there_are_not(refusal, tmp_path, words, message):
    assert refusal(f"--dataset {written(tmp_path / 'images.npz', train=IMAGES, test=IMAGES)} {words}") == message


def test_the_second_width_may_be_odd():
    assert UNetSettings((4, 4, 1), (6, 9), norm_groups=3).time_features == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seeds 99999999", "--seeds is at most 10000, got 99999999"),
        ("--seeds 12345678901234567890", "--seeds is at most 10000, got 12345678901234567890"),
        ("--num-steps 12345678901234567890", "--num-steps is at most 1000000, got 12345678901234567890"),
        (
            "--schedules cosine:12345678901234567890",
            "a schedule has at most 1000000 steps, got 'cosine:123456789012345",
        ),
        ("--schedules cosine:9999999", "a schedule has at most 1000000 steps, got 'cosine:9999999'"),
        ("--schedules cosine:\u00b2", 'a schedule is given as "name" or "name:T"'),
        ("--samples 9999999999", "--samples is at most 1000000000, got 9999999999"),
        ("--threads 99999", "--threads is at most 4096, got 99999"),
        ("--mlp-width 999999", "--mlp-width is at most 65536, got 999999"),
    ],
)
def test_numbers_too_large(refusal, words, message):
    assert refusal(words).startswith(message)


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (
            "compare_samplers",
            "--samples 12345678901234567890",
            "--samples is at most 1000000000, got 1234567890123456789",
        ),
        ("compare_samplers", "--steps 10 99999999999", "--steps is at most 1000000000, got 99999999999"),
        ("compare_samplers", "--clip-x-0 nan", "clip"),
        ("compare_estimators", "--repeats 99999999999", "--repeats is at most 1000000000, got 99999999999"),
        ("compare_throughput", "--block-seconds inf", "--block-seconds is a positive number, got inf"),
        ("compare_throughput", "--block-seconds nan", "--block-seconds is a positive number, got nan"),
        ("compare_throughput", "--rounds 99999999999", "--rounds is at most 1000000000, got 99999999999"),
        ("compare_throughput", "--widths", "widths are of 1 or more levels and at least 1 each, got ()"),
        ("compare_throughput", "--widths 9", "the first of the widths is even"),
    ],
)
def test_numbers_of_other_studies(commands, capsys, script, words, message):
    before = everything(commands.folder)
    seen = commands.run(script, words.split(), execute=False)
    assert reason_of(seen, before, commands.folder, capsys).startswith(message)


# Folders.


@pytest.mark.parametrize("content", ["[]", "null", "3", '"words"', "{", "\u00ff"])
def test_settings_that_are_none(commands, refusal, capsys, tmp_path, content):
    """Of the folder that a study is to go on in, and of a run that is to be measured."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_text(content, encoding="latin-1")
    assert str(run / "settings.json") in refusal(f"--out {run}")
    for script in ("compare_samplers", "compare_estimators", "compare_throughput"):
        before = everything(tmp_path)
        seen = commands.run(script, ["--run", str(run), "--out", str(tmp_path / "out")], execute=False)
        assert str(run / "settings.json") in reason_of(seen, before, tmp_path, capsys)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"factors": {}}', '{"factors": 3}', "{"])
def test_a_cells_record_that_is_none(commands, begun, tmp_path, capsys, content):
    (cell,) = RunFolder(begun.out).every_cell()
    cell.record.write_text(content)
    before = everything(tmp_path)
    seen = commands.run("compare_samplers", ["--run", str(begun.out), "--out", str(tmp_path / "s")], execute=False)
    assert str(cell.record) in reason_of(seen, before, tmp_path, capsys)


# Devices.


@pytest.fixture
def asked(monkeypatch) -> Iterator[list[tuple[str, str]]]:
    """Which devices frameworks were asked for; torch has cuda, keras has not."""
    calls: list[tuple[str, str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append((command[-2], command[-1]))
        there = calls[-1] == ("torch", "cuda")
        said = "Traceback\n  somewhere\nValueError: Keras on tensorflow has no such device\n"
        return subprocess.CompletedProcess(command, not there, "", "" if there else said)

    monkeypatch.setattr(machine.subprocess, "run", run)
    machine._missing_device.cache_clear()
    yield calls
    machine._missing_device.cache_clear()


def test_devices_are_asked_for_once_each_and_only_where_they_may_be_missing(asked):
    for _ in range(2):
        machine.check_device(["torch", "torch"], "cuda")
        machine.check_device(["torch", "keras"], "cpu")
        machine.check_device(["torch", "keras"], "auto")
        with pytest.raises(
            ValueError, match="--device cuda is not for keras here: Keras on tensorflow has no such dev"
        ):
            machine.check_device(["torch", "keras"], "cuda")
    assert asked == [("torch", "cuda"), ("keras", "cuda")]


@pytest.mark.parametrize("script", ["compare_objectives", "compare_estimators", "compare_throughput"])
def test_a_device_that_is_not_there(monkeypatch, capsys, tmp_path, asked, script):
    """Known before anything is written; what is asked is what the study would run on."""
    monkeypatch.setattr("studies.plan.grid.check_backend", lambda name: None)
    monkeypatch.setattr("studies.estimators.study.installed_backends", lambda: ["torch"])
    monkeypatch.setattr("studies.throughput.study.is_installed", lambda name: True)
    own = {"compare_objectives": ["--backends", "torch"], "compare_throughput": ["--contestants", "diffusers"]}
    main = importlib.import_module(f"studies.{script}").main
    with pytest.raises(SystemExit) as ended:
        main(["--device", "foo", "--out", str(tmp_path / "run"), *own.get(script, [])])
    said = capsys.readouterr().err
    assert (ended.value.code, said) == (2, "error: --device foo is not for torch here: Keras on tensorflow has no such "
                                           "device\n")  # fmt: skip
    assert asked == [("torch", "foo")]
    assert not (tmp_path / "run").exists()


def test_a_device_for_samples_that_is_not_there(commands, begun, monkeypatch, capsys, tmp_path, asked):
    monkeypatch.setattr("tests.studies.custody.command.TRAINS_POINTS", Capabilities(("numpy",)))
    before = everything(tmp_path)
    words = ["--run", str(begun.out), "--out", str(tmp_path / "s"), "--steps", "4", "--device", "cuda"]
    said = reason_of(commands.run("compare_samplers", words, execute=False), before, tmp_path, capsys)
    assert said.startswith("--device cuda is not for fake_one here: ")


# Ends.


def test_sigterm_ends_a_study_as_ctrl_c_does(capsys):
    before = signal.getsignal(signal.SIGTERM)

    def study() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        return 0

    assert guarded(study) == 130
    assert capsys.readouterr().err == "\nstopped; what is finished is kept, and the same command goes on from there\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_study_may_run_in_a_thread():
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(guarded(lambda: 7)))
    thread.start()
    thread.join(timeout=10)
    assert statuses == [7]


def test_a_disk_that_takes_no_files_is_one_line(capsys):
    def study() -> int:
        raise OSError(30, "Read-only file system", "runs/mine/results.csv")

    with pytest.raises(SystemExit, match="2"):
        guarded(study)
    assert capsys.readouterr().err == "error: [Errno 30] Read-only file system: 'runs/mine/results.csv'\n"
