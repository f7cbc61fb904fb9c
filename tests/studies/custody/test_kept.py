"""Nothing that a cell has measured is lost when a later stage of it fails; and what cannot be measured is a blank.

Studies run start to finish, report and all, on a backend without a framework, in this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from studies import study
from studies.cell.stages import run_recorded
from studies.plan.grid import grid
from studies.plan.grouping import Group
from studies.plan.settings import StudySettings
from studies.reporting.plotting import Plot
from studies.reporting.tables import dataset_tables
from studies.reporting.view import views_of
from studies.run.process import News, one_after_another
from studies.run.watch import STAGE_SHARE
from studies.samplers import study as samplers
from studies.samplers.cell import METRICS as SCORED
from studies.samplers.cell import run_cell as sampler_cell
from studies.samplers.settings import SamplerSettings
from studies.store import files
from studies.store.cells import Cell
from studies.store.folder import CellFolder, RunFolder
from studies.store.reading import read_run
from tests.studies.custody.conftest import installed_fakes
from tests.studies.custody.entry import small, write_points

STAGES = tuple(STAGE_SHARE)
"""Of every cell, in order: a report of another stage would be an error of whoever watches."""


class Killing:
    """An executor in this process; the cell `victim` dies where it reports `stage`, at the share `done` of it."""

    def __init__(self, victim: str = "", stage: str = "", done: int | None = None, body: Any = run_recorded) -> None:
        self.victim, self.stage, self.done, self.body = victim, stage, done, body

    def kills(self, cell: str, stage: str, done: int) -> bool:
        return (cell, stage) == (self.victim, self.stage) and self.done in (None, done)

    def start(self, run: Path, group: Group) -> _Running:
        return _Running(self, run, group)


class _Running:
    def __init__(self, killing: Killing, run: Path, group: Group) -> None:
        self.killing, self.run, self.group = killing, run, group

    def progress(self) -> Iterator[News]:
        reports: list[News] = []

        def report(stage: str, done: int, total: int, loss: float | None = None, rows: Any = (), *, cell: str) -> None:
            if self.killing.kills(cell, stage, done):
                raise RuntimeError(f"killed in {stage}")
            reports.append({"stage": stage, "done": done, "total": total, "loss": loss, "rows": rows, "cell": cell})

        self.killing.body(self.run, self.group, report)
        yield from reports

    def end(self) -> str:
        return "over"

    def cancel(self) -> None:
        raise AssertionError("nobody interrupts")


def draw_alone(plot: Plot, folder: Path) -> None:
    """Has every panel drawn, in place of writing the figure's files and images, which takes seconds."""
    assert len(plot.data) > 0
    for panel in plot.panels:
        panel.draw(Figure().subplots())


def leave_figures_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.reporting.figures.save", lambda plot, folder: None)
    monkeypatch.setattr("studies.reporting.page.images", lambda plot: [])


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_figures_out(monkeypatch)


def settings_in(folder: Path, points: Path, **changes: Any) -> StudySettings:
    changes = {"samples": 20, "full_samples": 0, "seeds": 1, "together": "off", "jobs": 1, **changes}
    return small(points, {"out": folder, "backends": ("fake_one",), **changes})


def run(settings: StudySettings, executor: Killing) -> int:
    return study.run_and_report("compare_objectives", settings, grid, [], executor=executor)


def rows_of(results: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """The cell's rows but those of a clock, as results.csv has them."""
    own = results[(results["objective"] == cell.objective) & (results["seed"] == cell.seed)]
    return own[~own["metric"].str.endswith("seconds")].reset_index(drop=True)


def results_of(settings: StudySettings) -> pd.DataFrame:
    return pd.read_csv(RunFolder(settings.out).results)


def folder_of(settings: StudySettings, cell: Cell) -> CellFolder:
    return RunFolder(settings.out).cell(cell.id)


def check_whole(settings: StudySettings, expected: pd.DataFrame) -> None:
    """Everything is there, in the same order."""
    results = results_of(settings)
    untimed, expected = (frame[~frame["metric"].str.endswith("seconds")] for frame in (results, expected))
    pd.testing.assert_frame_equal(untimed, expected, check_exact=True)
    for folder in RunFolder(settings.out).every_cell():
        assert folder.rows.is_file()
        assert not any(path.exists() for path in (folder.partial, folder.failure, folder.state))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, pd.DataFrame]]:
    """A study that nothing happened to: its data and its results."""
    folder = tmp_path_factory.mktemp("undisturbed")
    points = write_points(folder / "points.npz", train=60, test=30, dims=2)
    with pytest.MonkeyPatch.context() as monkeypatch:
        installed_fakes(monkeypatch)
        leave_figures_out(monkeypatch)
        settings = settings_in(folder / "run", points)
        assert run(settings, Killing()) == 0
        yield points, results_of(settings)


@pytest.mark.parametrize("stage", STAGES)
def test_the_rows_before_a_failing_stage_are_kept(undisturbed, fakes, tmp_path, capsys, monkeypatch, stage):
    """One of two cells dies in a stage: all that it had measured stands in results and report, beside the reason.

    The same command then completes it: to the bit what it would have been.
    """
    points, whole = undisturbed
    settings = settings_in(tmp_path / "run", points)
    victim = grid(settings)[-1]
    assert run(settings, Killing(victim.id, stage)) == 1
    printed = capsys.readouterr().out
    assert f"failed: {victim.id}: RuntimeError: killed in {stage}" in printed
    page = RunFolder(settings.out).page.read_text()
    assert f"{victim.id} (RuntimeError: killed in {stage})" in page

    results, expected = results_of(settings), rows_of(whole, victim)
    kept = rows_of(results, victim)
    pd.testing.assert_frame_equal(kept, expected.iloc[: len(kept)].astype(kept.dtypes), check_exact=True)
    timed = set(results[(results["objective"] == victim.objective) & (results["seed"] == victim.seed)]["metric"])
    before, after = STAGES[: STAGES.index(stage)], STAGES[STAGES.index(stage) :]
    assert {f"{done}_seconds" for done in before} <= timed
    assert not {f"{lost}_seconds" for lost in after} & timed
    for other in grid(settings)[:-1]:
        pd.testing.assert_frame_equal(rows_of(results, other), rows_of(whole, other), check_dtype=False)

    folder = folder_of(settings, victim)
    assert folder.checkpoint.is_file() == ("train" in before)
    assert folder.samples.is_file() == ("sample" in before)
    assert not folder.rows.exists()
    monkeypatch.setattr("studies.reporting.page.make_report", lambda run: ("", run))  # seen above
    assert run(settings, Killing()) == 0
    check_whole(settings, whole)


def test_a_comparison_goes_by_the_seeds_that_both_have(undisturbed, fakes, tmp_path):
    """Killed where it samples, a cell has its bound compared in both seeds, and its samples in the other one alone."""
    points, _ = undisturbed
    settings = settings_in(tmp_path / "run", points, seeds=2)
    victim = grid(settings)[-1]
    run(settings, Killing(victim.id, "sample"))
    (view,) = views_of(read_run(settings.out))
    assert view.against_reference("bound", "recipe")[0].left_out == ()
    (of_samples,) = view.against_reference("frechet", "recipe", view.main_sampler)
    assert of_samples.left_out == (1,)
    tables = dataset_tables(view)
    titles = [column["title"] for column in tables["columns"]]
    lacking, complete = (
        next(row for row in tables["cells"] if (row["recipe"] == "posterior KL") is wanted) for wanted in (True, False)
    )
    place = titles.index("Fréchet distance, data space")
    assert lacking["shown"][place].endswith("(1 seed)")
    assert "seed" not in lacking["shown"][titles.index("Test bound")] + complete["shown"][place]
    (difference,) = (row for row in tables["differences"] if row["pooled"])
    assert difference["shown"][place]["notes"][0] == "without seed 1"


def test_cells_of_one_program_keep_their_training(undisturbed, fakes, tmp_path):
    """Trained together, and the first killed as soon as it is measured: every network and curve is there by then."""
    points, _ = undisturbed
    settings = settings_in(tmp_path / "run", points, together="on")
    cells = grid(settings)

    class Ends(Killing):
        def start(self, run: Path, group: Group) -> _Running:
            return _Dying(self, run, group)

    class _Dying(_Running):
        def progress(self) -> Iterator[News]:
            with pytest.raises(KeyboardInterrupt):
                run_recorded(self.run, self.group, self.report)
            yield from ()

        def report(self, stage: str, *_: object, **__: object) -> None:
            if stage == "bound":
                raise KeyboardInterrupt

    assert run(settings, Ends()) == 1
    results = results_of(settings)
    for cell in cells:
        assert folder_of(settings, cell).checkpoint.is_file()
        assert "train_posterior_kl" in set(rows_of(results, cell)["metric"])
    assert run(settings, Killing()) == 0


def blanks_of(settings: StudySettings) -> dict[str, str]:
    """The reason of every metric left blank, the same in all cells."""
    blanks = [
        {row["metric"]: row["reason"] for row in files.read_blanks(folder)}
        for folder in RunFolder(settings.out).every_cell()
    ]
    assert all(of_cell == blanks[0] for of_cell in blanks)
    return blanks[0]


def metrics_of(results: pd.DataFrame) -> set[str]:
    return set(results["metric"])


def few(train: int, test: int) -> Any:
    return lambda path: write_points(path, train=train, test=test, dims=2)


def equal(path: Path) -> Path:
    np.savez(path, train=np.full((60, 2), 0.3), test=np.full((30, 2), 0.3))
    return path


def images(path: Path) -> Path:
    """White ones."""
    np.savez(path, train=np.ones((60, 4, 4, 1)), test=np.ones((30, 4, 4, 1)), levels=256)
    return path


NO_SCALE = {"frechet_features": "points that differ", "mmd2_1": "a median distance of 0"}
TOO_FEW = "points on either side, got"


@pytest.mark.parametrize(
    ("make", "changes", "left_blank"),
    [
        (few(38, 30), {}, {}),
        (few(60, 10), {}, {}),
        (few(60, 30), {"test_examples": 5}, {"coverage": TOO_FEW}),
        (few(12, 10), {}, {"frechet_features": "at least 10 rows"}),
        (
            few(2, 2),
            {},
            {
                "frechet": TOO_FEW, "frechet_features": TOO_FEW, "mmd2_1": TOO_FEW, "precision": TOO_FEW,
                "recall": TOO_FEW, "coverage": TOO_FEW, "memorisation": TOO_FEW,
            },
        ),
        (equal, {}, NO_SCALE),
        (images, {}, NO_SCALE),
    ],
    ids=["train", "test", "test_examples", "both", "two", "equal", "white"],
)  # fmt: skip
def test_what_cannot_be_measured_is_blank_and_nothing_else(
    undisturbed, fakes, tmp_path, capsys, monkeypatch, make, changes: dict[str, Any], left_blank: dict[str, str]
):
    """Too few or too equal examples: the study ends well, with every other row, and names each blank and its reason."""
    monkeypatch.setattr("studies.reporting.figures.save", draw_alone)
    points = make(tmp_path / "points.npz")
    settings = settings_in(tmp_path / "run", points, **changes)
    assert run(settings, Killing()) == 0
    _, whole = undisturbed
    blanks, printed = blanks_of(settings), capsys.readouterr().out
    assert set(blanks) == {name for metric in left_blank for name in (metric, f"{metric}_floor")}
    expected = metrics_of(whole) - set(blanks) - {"trained_together"}
    assert metrics_of(results_of(settings)) == expected
    assert results_of(settings)["value"].notna().all()
    page = RunFolder(settings.out).page.read_text()
    for metric, reason in left_blank.items():
        assert reason in blanks[metric]
        for text in (page, printed):
            assert f"The reason: {blanks[metric]}." in text
        assert f"Not computed in 2 cells: {blanks[metric]}." in page


def sample_study(settings: StudySettings, monkeypatch: pytest.MonkeyPatch, killing: Killing) -> tuple[int, Path]:
    """compare_samplers on a finished run, of two chains: its status and its folder."""
    killing.body = one_after_another(sampler_cell)
    monkeypatch.setattr("studies.samplers.study.LocalProcesses", lambda *_: killing)
    out = settings.out.parent / "samplers"
    asked = SamplerSettings(
        run=settings.out, out=out, samplers=("ancestral",), steps=(3, 12), samples=20, device="cpu", jobs=1
    )
    return samplers.run_and_report(asked, samplers.sampled_cells(asked), []), out


def test_the_chains_before_a_failing_one_are_kept(undisturbed, fakes, tmp_path, capsys, monkeypatch):
    """The longest comes first: its scores and samples are there though the cell died in the other one."""
    points, _ = undisturbed
    settings = settings_in(tmp_path / "run", points)
    victim = grid(settings)[-1]
    assert run(settings, Killing()) == 0
    status, out = sample_study(settings, monkeypatch, Killing(victim.id, "sample", 12))
    assert status == 1
    assert f"failed: {victim.id}: RuntimeError: killed in sample" in capsys.readouterr().out
    assert f"Failed: {victim.id}: RuntimeError: killed in sample" in RunFolder(out).page.read_text()
    results = pd.read_csv(RunFolder(out).results)
    kept = results[results["objective"] == victim.objective]
    assert set(kept["sampler"]) == {"ancestral-12"}
    assert {"frechet", "recall_floor"} <= set(kept["metric"])
    with np.load(RunFolder(out).cell(victim.id).samples) as samples:
        assert samples.files == ["ancestral-12"]
    assert sample_study(settings, monkeypatch, Killing()) == (0, out)
    both = pd.read_csv(RunFolder(out).results).groupby("objective")["sampler"].unique()
    assert [sorted(names) for names in both] == [["ancestral-12", "ancestral-3"]] * 2


@pytest.mark.parametrize(
    ("make", "left_blank"),
    [
        (few(12, 3), {"frechet_features", "precision", "recall"}),
        (few(2, 2), {*SCORED} - {"sliced_w2"}),
        (equal, {"frechet_features"}),
    ],
    ids=["few", "two", "equal"],
)
def test_scores_of_chains_are_blank_where_they_cannot_be_had(fakes, tmp_path, monkeypatch, capsys, make, left_blank):
    settings = settings_in(tmp_path / "run", make(tmp_path / "points.npz"), objectives=("epsilon_mse",))
    assert run(settings, Killing()) == 0
    capsys.readouterr()
    status, out = sample_study(settings, monkeypatch, Killing())
    assert status == 0
    results = pd.read_csv(RunFolder(out).results)
    there = {name for metric in set(SCORED) - left_blank for name in (metric, f"{metric}_floor")}
    assert there == set(results["metric"]) - {"sample_seconds", "scored_samples", "scored_reference"}
    printed, page = capsys.readouterr().out, RunFolder(out).page.read_text()
    (folder,) = RunFolder(out).every_cell()
    reasons = {row["metric"]: row["reason"] for row in files.read_blanks(folder)}
    assert {metric.removesuffix("_floor") for metric in reasons} == left_blank
    for reason in reasons.values():
        assert f"The reason: {reason}." in printed
        assert f"The reason: {reason}." in page
