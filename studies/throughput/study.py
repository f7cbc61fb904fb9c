"""The study: every case raced once, growth measured, then tables and verdict from what is in the folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from backends import BACKENDS
from studies.plan.command import to_json
from studies.plan.machine import check_device, uses_gpu
from studies.plan.settings import read_settings
from studies.run.environment import record_environment
from studies.store import files
from studies.store.data import dataset_of
from studies.throughput.answers import asked_of
from studies.throughput.cases import CASES, GROWTH_FILE, read_case
from studies.throughput.contestant import CEILINGS, PEERS, REFERENCE, Contestant
from studies.throughput.race import race
from studies.throughput.settings import MODES, ThroughputSettings
from studies.throughput.workloads import Workload, of_study, workloads

STUDY = "compare_throughput"
PACKAGES = {
    "torch": ("torch",),
    "keras": ("keras",),
    CEILINGS: ("torch",),
    "diffusers": ("torch", "diffusers"),
    "denoising-diffusion-pytorch": ("torch", "denoising_diffusion_pytorch"),
}
"""What must be installed for each contestant."""


def run_and_report(settings: ThroughputSettings, argv: Sequence[str]) -> int:
    """Measures what is not in the folder yet and writes the report; 1 where a contestant failed."""
    cases = raced(settings)
    if settings.run is not None:
        asked_of(settings.run)  # an error now rather than after the races
    racing = (REFERENCE if name in PEERS else name for name in settings.contestants if is_installed(name))
    check_device((name for name in racing if name in BACKENDS), settings.device)
    files.open_run(settings.out, to_json(settings), STUDY)
    record_environment(settings.out, STUDY, argv)
    missing = [name for name in settings.contestants if not is_installed(name)]
    for name in missing:
        print(f"not installed, left out: {name} (pip install {name})")
    failed = []
    for workload in cases:
        failed += _run_case(settings, workload)
    if settings.growth and not (settings.out / GROWTH_FILE).is_file():
        from studies.throughput.growth import measure

        rows = measure(settings.device, settings.threads, settings.out / "logs", lambda line: print(line, flush=True))
        files.write_text(settings.out / GROWTH_FILE, rows.to_csv(index=False))

    from studies.throughput.report import make_report  # matplotlib, only needed now

    closing_tables, report = make_report(settings.out)
    print(closing_tables)
    for line in failed:
        print(f"failed: {line}")
    print(f"report: {report}")
    return 1 if failed else 0


def raced(settings: ThroughputSettings) -> list[Workload]:
    """The workloads asked for, and the run's own where one is given."""
    known = workloads(uses_gpu(settings.device), settings.widths)
    chosen = [known[name] for name in settings.workloads]
    if settings.run is not None:
        trained = read_settings(settings.run)
        chosen.append(
            of_study(trained, dataset_of(settings.run, trained.dataset, trained.test_examples, trained.scale).shape)
        )
    return chosen


def is_installed(name: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in PACKAGES[name])


def contestants(settings: ThroughputSettings) -> list[Contestant]:
    """Who takes part in a race, of those that are installed; the ceilings are one of them, in every dtype."""
    chosen = [name for name in settings.contestants if is_installed(name)]
    ways = [(dtype, compiled) for dtype in settings.dtypes for compiled in MODES[settings.modes]]
    racing = [Contestant(name, *way) for name in chosen for way in ways]
    limits = [Contestant(CEILINGS, dtype) for dtype in settings.dtypes]
    return racing + limits * is_installed(CEILINGS)


def _run_case(settings: ThroughputSettings, workload: Workload) -> list[str]:
    """Races one case into its folder, unless it is there; returns a line for each contestant that failed."""
    path = settings.out / CASES / f"{workload.name}.json"
    if not path.is_file():
        print(f"{workload.name}: {settings.rounds} rounds", flush=True)
        case = race(
            contestants(settings),
            workload,
            device=settings.device,
            rounds=settings.rounds,
            block_seconds=settings.block_seconds,
            threads=settings.threads,
            logs=settings.out / "logs",
            clock=settings.clock,
            say=lambda line: print(line, flush=True),
        )
        files.write_text(path, case.to_json())
    facts = read_case(path).facts
    return [f"{workload.name}, {who.label}: {known.error}" for who, known in facts.items() if known.error]
