"""One thread, TensorFlow, and functions run op by op unless a test is about graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import backends.keras  # noqa: F401  chooses TensorFlow before Keras is imported

import keras  # isort: skip
import tensorflow as tf  # isort: skip

assert keras.backend.backend() == "tensorflow", "these tests are of Keras on TensorFlow; unset KERAS_BACKEND"
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")  # Keras's own


@pytest.fixture(autouse=True)
def _op_by_op(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tracing a graph takes a second, and the contract's tests need hundreds of them, each for one call.

    Tests with the fixture `graphs` compile as users do, and show that this changes nothing but the order of sums.
    """
    tf.config.run_functions_eagerly("graphs" not in request.fixturenames)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def graphs() -> None:
    """For tests in which functions are compiled."""
