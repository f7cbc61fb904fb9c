"""`--help` of every study script answers at once: it loads no framework, and nothing heavy that only a study needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / "studies").glob("*.py") if "__main__" in path.read_text())
HEAVY = (
    "torch", "keras", "tensorflow", "jax", "pandas", "sklearn", "matplotlib", "statsmodels", "ot", "jinja2",
    "scipy.spatial", "scipy.stats",
)  # fmt: skip
PROGRAM = """
import json, runpy, sys
script, *heavy = sys.argv[1:]
sys.argv = [script, "--help"]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as ended:
    print("\\n" + json.dumps([ended.code, [name for name in heavy if name in sys.modules]]))
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_nothing_heavy(script):
    """Loading any one of these takes about as long as the half second that all of --help may take."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"studies/{script}", *HEAVY],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "usage: " in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]
