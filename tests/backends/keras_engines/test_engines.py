"""Keras on JAX and on PyTorch, each in a process of its own: the engine is chosen before Keras is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.parity

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("engine", ["jax", "torch"])
def test_keras_holds_on(engine):
    """Losses, gradients, training, an interruption, sampling, files and `fit`; in float64 too on JAX."""
    environment = {
        **os.environ, "KERAS_BACKEND": engine, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.backends.keras_engines.checks"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "all held"
