"""Chooses the engine and imports Keras; comes before every other import of Keras in this package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@contextmanager
def _quiet_start() -> Iterator[None]:
    """TensorFlow's native code greets on file descriptor 2 before any setting of its own can stop it.

    Does nothing where TF_CPP_MIN_LOG_LEVEL is set by whoever wants to read it. Exceptions are not output and pass.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with _quiet_start():
    import keras  # noqa: F401
