"""Which network a study of a finished run measured: a digest of its checkpoint, beside what was measured.

A run may be trained anew in its folder. What was measured before is then of another network, and stands in one report
with what is measured after only by mistake. Folders from before digests were recorded go on without.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from studies.store.files import write_text
from studies.store.folder import CellFolder, RunFolder


def digest_of(trained: CellFolder) -> str:
    """SHA-256 of the checkpoint, byte for byte."""
    return hashlib.sha256(trained.checkpoint.read_bytes()).hexdigest()


def record_measured(out: Path, run: Path, cell_id: str) -> None:
    """Writes beside the cell's measurements in `out` which network of `run` they are of, unless it is there.

    ValueError where they are of another.
    """
    folder, trained = RunFolder(out).cell(cell_id), RunFolder(run).cell(cell_id)
    _check(out, run, folder, trained)
    if not folder.measured.is_file():
        write_text(folder.measured, digest_of(trained) + "\n")


def check_measured(out: Path, run: Path) -> None:
    """ValueError in one line where a cell of `out` was measured on another network than the run has now."""
    for folder in RunFolder(out).every_cell():
        _check(out, run, folder, RunFolder(run).cell(folder.id))


def _check(out: Path, run: Path, folder: CellFolder, trained: CellFolder) -> None:
    if not (folder.measured.is_file() and trained.checkpoint.is_file()):
        return
    there, now = folder.measured.read_text(encoding="utf-8").strip(), digest_of(trained)
    if there != now:
        raise ValueError(
            f"{run} was trained anew since {out} measured {folder.id} (digest {there[:12]} there, {now[:12]} now); "
            "give another folder with --out"
        )
