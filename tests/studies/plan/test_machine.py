"""What a cell's process finds in its environment."""

from __future__ import annotations

import subprocess
import sys

from studies.plan.machine import cell_environment


def test_a_cell_imports_this_checkout_where_the_folder_it_starts_in_has_packages_of_these_names(tmp_path):
    """`python -m` looks in the current folder first, and a project of one's own may well have a `core`."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("raise SystemExit('the core of another project')\n")
    command = [sys.executable, "-m", "core.timesteps"]
    started = subprocess.run(command, cwd=tmp_path, env=cell_environment(1), capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
