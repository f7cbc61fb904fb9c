"""Whatever a command line, a settings file, a data file or a run holds: a study starts, or says why in one line.

Every case goes in at the door that a user takes, a script's `main`, and ends where the run's folder would be made: by
then all that can be known before the first cell starts has been checked. What is let through must then be enough to
build a cell's process, network, chain and batches. `pytest --hypothesis-profile=thorough` tries thousands.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from backends.checkpoints import save_network
from backends.checks import check_network
from backends.networks import initial_weights
from studies.cell.model import starting_process
from studies.datasets import DATASETS, load_dataset
from studies.estimators.settings import EstimatorSettings
from studies.plan.batches import evaluation_batch
from studies.plan.command import to_json
from studies.plan.fields import field_types
from studies.plan.grouping import groups_of
from studies.plan.schedules import learned_schedule
from studies.plan.settings import StudySettings
from studies.samplers.settings import SamplerSettings
from studies.store import files
from studies.store.cells import Cell
from studies.store.data import record_data
from studies.store.folder import RunFolder
from studies.store.reading import read_run
from studies.throughput.settings import ThroughputSettings

SCRIPTS: dict[str, Any] = {
    "compare_objectives": StudySettings,
    "compare_parameterizations": StudySettings,
    "compare_schedules": StudySettings,
    "sohl_dickstein_2015": StudySettings,
    "compare_samplers": SamplerSettings,
    "compare_estimators": EstimatorSettings,
    "compare_throughput": ThroughputSettings,
}
TINY = {"num_steps": 20, "sample_steps": 5, "backends": ["torch"], "seeds": 1, "widths": [8, 8], "device": "cpu"}


def cases(few: int) -> Callable[[Any], Any]:
    """The same cases every time: `few` of them, or as many as the profile asks for where that is more than usual."""
    asked = settings.default.max_examples
    return settings(
        max_examples=asked if asked > 100 else min(few, asked),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# The door.


class Started(BaseException):
    """All was checked, and the run's folder would be made now."""


def outcome(script: str, argv: list[str]) -> str | None:
    """None where the study would start; else the one line that it ends with."""
    said = io.StringIO()
    main = importlib.import_module(f"studies.{script}").main
    status: Any = None
    with (
        mock.patch("studies.store.files.open_run", side_effect=Started),
        mock.patch("studies.plan.machine._missing_device", lambda name, device: f"no device {device!r} here"),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            main(argv)
        except Started:
            return None
        except SystemExit as ended:
            status = ended.code
    assert status == 2, (status, said.getvalue())
    lines = said.getvalue().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def starts(script: str, argv: list[str]) -> bool:
    """Whether the study would; the share of cases that do is in the statistics of Hypothesis."""
    reason = outcome(script, argv)
    event("starts" if reason is None else "is refused")
    return reason is None


def build(script: str, argv: list[str]) -> None:
    """What a cell makes of the settings before its first step, at the cheapest."""
    module = importlib.import_module(f"studies.{script}")
    seen: dict[str, Any] = {}

    def note(study: str, asked: StudySettings, make_cells: Any, *_: Any) -> int:
        seen.update(settings=asked, cells=make_cells(asked))
        return 0

    with mock.patch.object(module, "run_and_report", note):
        module.main(argv)
    asked, cells = seen["settings"], seen["cells"]
    dataset = load_dataset(asked.dataset, asked.test_examples)
    asked.recipe()
    for cell in {dataclasses.replace(cell, seed=0, backend="torch", objective="hybrid") for cell in cells}:
        process = starting_process(cell, asked, dataset)
        network = asked.network(dataset.shape, process.learns_variance)
        check_network(network, process)
        process.schedule.respaced(min(asked.sample_steps, process.schedule.num_steps))
        learned_schedule(cell.schedule, asked.num_steps, dataset.levels)
        asked.execution(cell.dtype)
        assert evaluation_batch(network, "cpu") >= 1
    few = cells[:20]
    assert sum(map(len, groups_of(few, asked, dataset.shape, 1, False))) == len(few)


# What comes to it.

NUMBERS = [-(10**30), -1, 0, 1, 2, 3, 7, 8, 16, 20, 21, 64, 1000, 65_537, 10**6, 10**9, 10**9 + 1, 10**19, 10**30]
FRACTIONS = [
    float("nan"),
    float("inf"),
    -float("inf"),
    -1.0,
    0.0,
    -0.0,
    1e-300,
    5e-324,
    1e-3,
    0.5,
    1.0,
    2.5,
    1e30,
    1e308,
]
ODD_TEXT = [
    "", " ", "None", "nan", "-1", "1e3", "a b", "../x", "/", "~", "x" * 300, "\x00", "\n", "\ud800", "é", "--jobs", "=",
    "digits:", ":", "linear:", "linear:0", "linear:-3", "linear:1e3", "linear:²", "cosine:7", "cosine:20",
    "cosine:1000001", "learned", "learned-", "learned-learned", "learned-cosine:9", "harmonic", "constant:1",
    "log-linear:2", "seed=0", "seed=", "=0", "objective=hybrid", "seed=0,1,x", "dpm_solver-logsnr", "ddim-",
    "-quadratic",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(FRACTIONS) | st.sampled_from(ODD_TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "a", "seed"]), inner, max_size=2),
    max_leaves=5,
)


def of_type(hint: Any, name: str, texts: list[str]) -> st.SearchStrategy[Any]:
    """Values of a field's type, usual and odd, as JSON has them."""
    of, parts = get_origin(hint), get_args(hint)
    if of is Annotated:
        return of_type(parts[0], name, texts)
    if of is Literal:
        return st.sampled_from(parts)
    if of is UnionType:
        return st.none() | of_type(next(part for part in parts if part is not NoneType), name, texts)
    if of is tuple:
        return st.lists(of_type(parts[0], name, texts), max_size=4)
    usual: dict[Any, st.SearchStrategy[Any]] = {
        int: st.sampled_from(NUMBERS) | st.integers(0, 40),
        float: st.sampled_from(FRACTIONS) | st.floats(0, 4) | st.sampled_from(NUMBERS),
        bool: st.booleans(),
        str: st.sampled_from(texts if name == "dataset" else ODD_TEXT),
        Path: st.sampled_from(texts),
    }
    return usual[hint]


def changes(kind: Any, texts: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Up to four settings changed, each to a value of its type or to any JSON; and now and then one that is unknown."""
    fields = {name: of_type(hint, name, texts) for name, hint in field_types(kind).items() if name != "out"}
    one = st.sampled_from([*fields, *fields, *fields, "unknown"]).flatmap(
        lambda name: st.tuples(st.just(name), st.one_of(*[fields.get(name, JSON)] * 4, JSON))
    )
    return st.lists(one, max_size=4).map(dict)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data file of every kind, and a finished run of two cells on one of them."""
    folder = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    for name, shape in (
        ("points", (2,)),
        ("table", (5,)),
        ("series", (8, 2)),
        ("images", (8, 8, 1)),
        ("odd", (5, 7, 1)),
    ):
        np.savez(
            folder / f"{name}.npz", train=rng.standard_normal((60, *shape)), test=rng.standard_normal((30, *shape))
        )
    write_run(folder / "run", str(folder / "points.npz"))
    return folder


def write_run(run: Path, data: str) -> None:
    """A finished run as far as the studies of one read it, without training anything."""
    asked = StudySettings(out=run, dataset=data, num_steps=20, backends=("torch",), seeds=2, mlp_width=8, mlp_depth=1)
    dataset = load_dataset(data)
    run.mkdir()
    RunFolder(run).settings.write_text(json.dumps({"study": "compare_objectives", **json.loads(to_json(asked))}))
    record_data(run, data, dataset)
    network = asked.network(dataset.shape, learns_variance=False)
    cells = [
        Cell("points", "linear", "epsilon", "beta_tilde", o, "torch", seed) for o in asked.objectives for seed in (0, 1)
    ]
    for cell in cells:
        folder = RunFolder(run).cell(cell.id)
        folder.path.mkdir(parents=True)
        save_network(folder.checkpoint, initial_weights(network, 0), network)
        rows = [files.row("bound", 3 + cell.seed + 0.1 * len(cell.objective), "bits/dim")]
        files.write_finished(folder, cell, {"device": "cpu"}, rows)
    files.gather_results(run, [cell.id for cell in cells])


@pytest.fixture(scope="module")
def texts(place: Path) -> list[str]:
    """What a path or the name of data may be."""
    return [*DATASETS, *(str(path) for path in sorted(place.glob("*"))), *ODD_TEXT]


def base_of(kind: Any, place: Path) -> dict[str, Any]:
    """Settings with which each study starts: small, and on what is in the folder."""
    out = {"out": str(place / "new")}
    if kind is StudySettings:
        return {**TINY, **out, "dataset": str(place / "points.npz")}
    return {**out, "run": str(place / "run"), "device": "cpu"}


def test_the_base_starts(place):
    """Or every case below would end well for one and the same reason."""
    for script, kind in SCRIPTS.items():
        words = words_of(base_of(kind, place), kind)
        assert outcome(script, words) is None, script
        if kind is StudySettings:
            build(script, words)


def words_of(values: dict[str, Any], kind: Any) -> list[str]:
    """Values as one types them, whatever their type."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    words: list[str] = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(defaults.get(name), bool) and isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return words


STUDIES = [script for script, kind in SCRIPTS.items() if kind is StudySettings]


@given(data=st.data())
@cases(100)
def test_settings_files_of_a_study(place, texts, data):
    """Values of every type for every field, through --config."""
    script = data.draw(st.sampled_from(STUDIES))
    values = {**base_of(StudySettings, place), **data.draw(changes(StudySettings, texts))}
    with recorded(values) as path:
        argv = ["--config", str(path)]
        if starts(script, argv):
            build(script, argv)


@given(data=st.data())
@cases(60)
def test_command_lines_of_a_study(place, texts, data):
    """The same as words; a word is text, so that types differ less and spellings more."""
    script = data.draw(st.sampled_from(STUDIES))
    argv = words_of({**base_of(StudySettings, place), **data.draw(changes(StudySettings, texts))}, StudySettings)
    if data.draw(st.integers(0, 5)) == 0:
        argv.insert(data.draw(st.integers(0, len(argv))), data.draw(st.sampled_from(ODD_TEXT)))
    if starts(script, argv):
        build(script, argv)


@given(data=st.data())
@cases(60)
def test_settings_of_the_studies_of_a_run(place, texts, data):
    script = data.draw(st.sampled_from([script for script in SCRIPTS if script not in STUDIES]))
    values = {**base_of(SCRIPTS[script], place), **data.draw(changes(SCRIPTS[script], texts))}
    if data.draw(st.booleans()):
        starts(script, words_of(values, SCRIPTS[script]))
        return
    with recorded(values) as path:
        starts(script, ["--config", str(path)])


@contextlib.contextmanager
def recorded(values: Any) -> Iterator[Path]:
    """A settings file of these values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(values))
        yield path


# A run's folder that holds something else.


@given(data=st.data())
@cases(60)
def test_files_of_a_run(place, texts, data):
    """Its settings, cell records, checkpoints and arrays: changed, of other types, cut off, junk."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(place / "run", run)
        path = data.draw(st.sampled_from(sorted(path for path in run.rglob("*") if path.is_file())))
        path.write_bytes(data.draw(contents(path, texts)))
        script = data.draw(st.sampled_from(["compare_samplers", "compare_estimators", "compare_throughput"]))
        starts(script, ["--run", str(run), "--out", str(Path(folder) / "new"), "--device", "cpu"])
        with contextlib.suppress(ValueError):
            read_run(run)


def contents(path: Path, texts: list[str]) -> st.SearchStrategy[bytes]:
    """What a file may hold instead of what it holds."""
    whole = path.read_bytes()
    choices = [
        st.binary(max_size=20),
        st.integers(0, len(whole)).map(lambda end: whole[:end]),
        st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)).map(
            lambda at: whole[: at[0]] + bytes([at[1]]) + whole[at[0] + 1 :]
        ),
    ]
    if path.suffix == ".json":
        values = json.loads(whole)
        choices += [JSON.map(lambda value: json.dumps(value).encode())]
        if "study" in values:
            altered = changes(StudySettings, texts).map(lambda change: {**values, **change})
        else:
            key = st.sampled_from([*values["factors"], "unknown"])
            altered = st.dictionaries(key, JSON, max_size=2).map(
                lambda change: {**values, "factors": {**values["factors"], **change}}
            )
        choices += [altered.map(lambda values: json.dumps(values).encode())] * 3
    return st.one_of(choices)


# Data files.

DTYPES = [
    "f8",
    "f4",
    "f2",
    ">f8",
    "u1",
    "i2",
    "i8",
    "u8",
    "?",
    "c16",
    "M8[D]",
    "m8[s]",
    "U3",
    "S2",
    "O",
    [("a", "f8")],
    "V4",
]
LENGTHS = st.sampled_from([0, 1, 2, 3, 5, 8, 30])


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape = tuple(draw(st.lists(LENGTHS, max_size=5)))
    if draw(st.integers(0, 2)):  # most often what a dataset may be: 30 examples of points, series or images
        shape = (
            draw(st.sampled_from([2, 20, 30, 60])),
            *draw(st.sampled_from([(2,), (3,), (8, 1), (8, 8, 1), (4, 4, 3)])),
        )
    size = int(np.prod(shape))
    if size > 20_000:
        shape, size = shape[:1], int(np.prod(shape[:1]))
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    values = draw(st.sampled_from(["normal", "bytes", "levels", "constant", "nan", "huge"]))
    plain = {
        "normal": rng.standard_normal(size), "bytes": rng.integers(0, 256, size), "constant": np.ones(size),
        "levels": rng.integers(0, 4, size) / 1.5 - 1, "nan": np.full(size, np.nan), "huge": np.full(size, 1e300),
    }[values].reshape(shape)  # fmt: skip
    dtype = draw(st.sampled_from(["f8"] * 6 + DTYPES))
    with np.errstate(all="ignore"):
        try:
            return plain.astype(dtype)
        except (TypeError, ValueError):
            return np.zeros(shape, dtype)


LEVELS = st.sampled_from(
    [0, 1, 2, 4, 256, -3, 2.5, 2**24, 2**40, 10**15, float("nan"), float("inf"), "4", None, [4], [4, 4], True]
)


@st.composite
def data_files(draw: st.DrawFn) -> bytes:
    """A data file: arrays under the right names or others, whole, cut off, altered, of another kind."""
    named = {
        name: draw(arrays()) for name in draw(st.sampled_from([("train", "test")] * 8 + [("train",), (), ("x", "y")]))
    }
    if "test" in named and draw(st.integers(0, 3)):
        named["test"] = (
            named["train"][: draw(st.sampled_from([0, 1, 2, 20, 30]))] if named["train"].ndim else named["test"]
        )
    if draw(st.integers(0, 2)) == 0:
        named["levels"] = np.array(draw(LEVELS))
    file = io.BytesIO()
    np.savez(file, **named)
    whole = file.getvalue()
    match draw(st.integers(0, 11)):
        case 0:
            return whole[: draw(st.integers(0, len(whole)))]
        case 1:
            at = draw(st.integers(0, len(whole) - 1))
            return whole[:at] + bytes([draw(st.integers(0, 255))]) + whole[at + 1 :]
        case 2:
            return draw(st.binary(max_size=40))
        case 3:
            lone = io.BytesIO()
            np.save(lone, draw(arrays()), allow_pickle=True)
            return lone.getvalue()
        case 4:
            return whole.replace(b"(60, ", b"(9" + b"9" * draw(st.integers(0, 14)) + b", ")  # more than there is
    return whole


@given(content=data_files(), name=st.sampled_from(["mine.npz", "mine.NPZ", "mine.npy", "mine", "0.npz", "nan.npz"]))
@cases(120)
def test_data_files(content, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        argv = words_of({**TINY, "dataset": str(path), "out": str(Path(folder) / "new")}, StudySettings)
        if starts("compare_objectives", argv):
            build("compare_objectives", argv)
