"""What every study script does: say what will happen, run the cells, write the report, print the closing table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

from backends.networks import NetworkSettings, UNetSettings
from core.variances import as_variance
from studies.datasets import DATASETS, Dataset, in_words, load_dataset
from studies.plan import compiling
from studies.plan.costs import cell_seconds, draws_whole_chain, steps_to_warm
from studies.plan.machine import default_jobs, uses_gpu
from studies.plan.schedules import left_at_the_end, length_of
from studies.plan.settings import StudySettings
from studies.run.executor import Executor
from studies.run.runner import run_study
from studies.run.seeds import add_seeds, check_sequential
from studies.run.watch import DRAWING
from studies.store import files
from studies.store.cells import FACTORS, Cell
from studies.store.folder import RunFolder


def run_and_report(
    study: str,
    settings: StudySettings,
    make_cells: Callable[[StudySettings], list[Cell]],
    argv: Sequence[str],
    add_to_run: Callable[[Path], str] | None = None,
    executor: Executor | None = None,
) -> int:
    """Runs the study and returns the exit status: 0, or 1 where a cell failed.

    `add_to_run` writes what a study has of its own into the run's folder, before the report is made, and returns what
    it has to say on the terminal. `executor`: where the cells run; None: in processes on this machine.
    """
    cells = make_cells(settings)
    settings = settings.replace(backends=tuple(dict.fromkeys(cell.backend for cell in cells)))  # as resolved
    if settings.seeds_until is not None:
        check_sequential(settings, cells)
    dataset = load_dataset(settings.dataset, settings.test_examples, settings.scale)
    print(announcement(settings, cells, dataset), flush=True)
    outcome = run_study(study, settings, cells, argv, dataset, executor)
    closing = ""
    if settings.seeds_until is not None and not outcome.failed:
        outcome, closing = add_seeds(study, settings, make_cells, argv, dataset, executor)

    from studies.reporting.page import make_report  # matplotlib and pandas, only needed now

    if not any(files.has_rows(folder) for folder in RunFolder(settings.out).every_cell()):
        print(f"no cell has measured anything; the reasons are in {RunFolder(settings.out).cells}")
        return 1
    added = "" if add_to_run is None else add_to_run(settings.out)
    print(DRAWING, flush=True)
    closing_table, report = make_report(settings.out)
    print(closing_table)
    if added:
        print(added)
    for cell_id, reason in outcome.failed.items():
        print(f"failed: {cell_id}: {reason}")
    print(f"{closing}report: {report}")
    return 1 if outcome.failed else 0


def announcement(settings: StudySettings, cells: Sequence[Cell], dataset: Dataset) -> str:
    """What the study will do, and for U-Nets on a CPU about how long it will take."""
    jobs = settings.jobs or default_jobs(settings.device, settings.threads)
    counts = {factor.plural: len({getattr(cell, factor.name) for cell in cells}) for factor in FACTORS}
    lengths = sorted({length_of(cell.schedule, settings.num_steps) for cell in cells})
    varied = " x ".join(f"{count} {plural}" for plural, count in counts.items() if count > 1)
    lines = [
        f"{len(cells)} cells on {settings.dataset}" + (f" ({varied})" if varied else "") + f", {jobs} side by side:",
        f"  {settings.train_steps} steps of batch {settings.batch_size}, T = {', '.join(map(str, lengths))}, "
        f"then the test bound and {settings.samples} samples of each",
        f"  {_network(settings.network(dataset.shape, learns_variance=False))}",
        *_data(settings, dataset),
        *(f"  note: {remark}" for remark in (*_schedules(settings, cells), *_left_out(settings, cells, lengths))),
        *_compiling(settings, cells, dataset.shape),
        f"  results in {settings.out}; stop at any time, the same command goes on from there",
    ]
    if earlier := len(files.finished_besides(settings.out, cells)):
        lines.append(f"  {earlier} more cells of an earlier command are finished there, and stay in results and report")
    network = settings.network(dataset.shape, learns_variance=False)
    if isinstance(network, UNetSettings) and not uses_gpu(settings.device):
        rounds = -(-len(cells) // jobs)
        by_length = {t: cell_seconds(network, settings.replace(num_steps=t), len(dataset.test)) for t in lengths}
        seconds = [by_length[length_of(cell.schedule, settings.num_steps)] for cell in cells]
        minutes = rounds * mean(seconds) / 60
        lines.append(
            f"  about {minutes:,.0f} minutes on idle CPU cores like those of 2024; the time left that is shown while"
            " cells run is measured on yours"
        )
    return "\n".join(lines)


def _data(settings: StudySettings, dataset: Dataset) -> list[str]:
    """Lines on a file: what its numbers were taken for, how they are scaled, and what looks odd about them."""
    if settings.dataset in DATASETS:
        return []
    lines = [f"  data: {in_words(dataset)}"]
    if dataset.scale is not None:
        lines.append(
            f"  scaled by {dataset.scale.rule}: likelihoods are in the file's own units, samples and their metrics not"
        )
    return lines + [f"  note: {remark}" for remark in dataset.remarks]


def _schedules(settings: StudySettings, cells: Sequence[Cell]) -> list[str]:
    """A remark on each schedule whose chain does not end in noise."""
    remarks = [left_at_the_end(words, settings.num_steps) for words in dict.fromkeys(cell.schedule for cell in cells)]
    return [remark for remark in remarks if remark]


def _network(network: NetworkSettings) -> str:
    """What is trained, and so which flags of networks count."""
    if isinstance(network, UNetSettings):
        return f"a U-Net of widths {', '.join(map(str, network.widths))}"
    return f"a perceptron of width {network.width} and depth {network.depth}, as examples are points"


def _left_out(settings: StudySettings, cells: Sequence[Cell], lengths: Sequence[int]) -> list[str]:
    """Remarks on what was asked for and will not be, or hardly."""
    lines = []
    whole = [length for length in lengths if draws_whole_chain(settings, length)]
    if settings.full_samples and whole:
        lines.append(f"samples are by the whole chain where T = {whole[-1]} or less: none are drawn beside them")
    if any(cell.timesteps == "importance" for cell in cells):
        warm = steps_to_warm(lengths[-1], settings.batch_size)
        if 2 * warm > settings.train_steps:
            lines.append(
                f"importance sampling of T = {lengths[-1]} begins after about {warm} steps, of "
                f"{settings.train_steps}; t is uniform until then"
            )
    return lines


def _compiling(settings: StudySettings, cells: Sequence[Cell], shape: tuple[int, ...]) -> list[str]:
    """A line a backend: whether its cells are compiled."""
    first = {cell.backend: cell for cell in reversed(cells)}
    networks = {name: settings.network(shape, as_variance(cell.variance).is_learned) for name, cell in first.items()}
    return [f"  {compiling.announcement(first[name], networks[name], settings)}" for name in reversed(first)]
