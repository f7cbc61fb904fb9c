"""Chooses the engine and imports Keras; comes before every other import of Keras in this package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from backends.capabilities import DEFAULT_ENGINE, ENGINE_VARIABLE

os.environ.setdefault(ENGINE_VARIABLE, DEFAULT_ENGINE)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """TensorFlow's native code greets on file descriptor 2 before any setting of its own can stop it.

    Does nothing where TF_CPP_MIN_LOG_LEVEL is set by whoever wants to read it. Exceptions are not output and pass.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    standard_error = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)


with _quiet_start():
    import keras  # noqa: F401
