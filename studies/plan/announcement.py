"""What is said of a study before it starts: what will run, on which data, what looks odd, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from backends.networks import NetworkSettings, UNetSettings
from core.variances import as_variance
from studies.datasets import DATASETS, Dataset, in_words
from studies.plan import compiling
from studies.plan.costs import cell_seconds, draws_whole_chain, steps_to_warm
from studies.plan.machine import default_jobs, uses_gpu
from studies.plan.schedules import left_at_the_end, length_of
from studies.plan.settings import StudySettings
from studies.store import files
from studies.store.cells import FACTORS, Cell


def announcement(settings: StudySettings, cells: Sequence[Cell], dataset: Dataset) -> str:
    """What the study will do, and for U-Nets on a CPU about how long it will take."""
    jobs = settings.jobs or default_jobs(settings.device, settings.threads)
    counts = {factor.plural: len({getattr(cell, factor.name) for cell in cells}) for factor in FACTORS}
    lengths = sorted({length_of(cell.schedule, settings.num_steps) for cell in cells})
    varied = " x ".join(f"{count} {plural}" for plural, count in counts.items() if count > 1)
    lines = [
        f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} on {settings.dataset}"
        + (f" ({varied})" if varied else "")
        + f", {jobs} side by side:",
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
        minutes = max(1, round(rounds * mean(seconds) / 60))
        lines.append(
            f"  about {minutes:,} minute{'s' if minutes > 1 else ''} on idle CPU cores like those of 2024; the time"
            " left that is shown while cells run is measured on yours"
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
