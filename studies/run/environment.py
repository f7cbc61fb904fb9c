"""Under what a run was made: command, versions, processor and commit, recorded with it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from studies.plan.machine import ROOT
from studies.store import files
from studies.store.folder import RunFolder

PACKAGES = ("torch", "keras", "tensorflow", "jax", "numpy", "scipy", "pandas", "scikit-learn", "safetensors")


def record_environment(run: Path, study: str, argv: Sequence[str]) -> None:
    path = RunFolder(run).environment
    if path.is_file():
        return
    files.write_json(
        path,
        {
            "command": shlex.join(["python", f"studies/{study}.py", *argv]),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu": _processor(),
            "cores": os.cpu_count(),
            "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
            "commit": _commit(),
        },
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The checkout's commit, "+" where it has uncommitted changes; None outside a checkout."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
