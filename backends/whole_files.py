"""Files that are written whole or not at all, and stay so when the power fails.

A file is filled beside its place, brought to the disk, moved there, and the folder brought to the disk too: without the
first `fsync` a crash may leave a whole name on half a file, without the second the old file (POSIX; Pillai et al. 2014,
"All file systems are not created equal", OSDI, https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai).
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_WRITER = f"{socket.gethostname()}-{{pid}}-"
_PART = re.compile(r"^\..+\.(?P<host>[^/]+)-(?P<pid>\d+)-\w+\.part$")


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Has `write` fill a temporary file beside `path`, then moves it there: a reader never sees half a file.

    An older file there stays until then; the folder is made where it is missing. A process that is killed while it
    writes leaves the temporary file, whose name says whose it is (`clear_abandoned`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = _WRITER.format(pid=os.getpid())
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{writer}", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's file is private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _bring_to_disk(path.parent)


def is_unfinished(path: Path) -> bool:
    """Whether a file is one that `write_whole` has not moved to its place."""
    return _PART.match(path.name) is not None


def clear_abandoned(folder: Path) -> None:
    """Removes what processes of this machine were writing into the folder when they were killed."""
    for path in folder.glob(".*.part"):
        part = _PART.match(path.name)
        if part and part["host"] == socket.gethostname() and not _runs(int(part["pid"])):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _bring_to_disk(folder: Path) -> None:
    """The folder's entries; Windows has no such thing to ask for."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
