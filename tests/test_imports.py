"""The arrows between packages point one way, and core stays light: read from the source, timed in fresh processes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = {"torch", "keras", "tensorflow", "jax", "safetensors"}
STUDY_TOOLS = {"pandas", "sklearn", "matplotlib", "ot", "rich", "tyro", "jinja2", "ray"}


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no modules under {package}"
    return found


def imported(path: Path) -> set[str]:
    """Dotted names that a module imports anywhere in it, inside functions and under TYPE_CHECKING too."""
    names = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            names.update(f"{module}.{alias.name}" for alias in node.names)
            names.add(module)
    return names


def offenders(package: str, *forbidden: str) -> list[str]:
    """Imports within `package` of a forbidden module or of anything in it."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in sorted(imported(path))
        if any(name == ban or name.startswith(f"{ban}.") for ban in forbidden)
    ]


def test_imports_are_found():
    """The reader sees plain, nested and relative imports; without this the tests below could pass on nothing."""
    assert "core.schedules.Schedule" in imported(ROOT / "core" / "forward.py")
    assert "scipy.special.erfc" in imported(ROOT / "core" / "arrays.py")  # inside a function
    assert not offenders("core", "os")
    assert offenders("core", "numpy")


def test_core_imports_numpy_and_scipy_only():
    """core needs nothing but itself, the standard library, numpy and scipy."""
    allowed = {"core", "numpy", "scipy", *sys.stdlib_module_names}
    strangers = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("core")
        for name in imported(path)
        if name.split(".")[0] not in allowed
    }
    assert not strangers


def test_core_reads_no_clock_file_or_random_numbers():
    """core is pure: no device, no environment, no generator."""
    assert not offenders("core", "os", "sys", "io", "pathlib", "time", "datetime", "random", "secrets", "numpy.random")
    drawn = [str(path) for path in modules("core") if "np.random" in path.read_text(encoding="utf-8")]
    assert not drawn


def test_backends_import_no_study():
    assert not offenders("backends", "studies", *STUDY_TOOLS)


def test_torch_and_keras_never_import_each_other():
    assert not offenders("backends/torch", "backends.keras", "keras", "tensorflow", "jax")
    assert not offenders("backends/keras", "backends.torch")


def test_nothing_imports_the_tests():
    for package in ("core", "backends", "studies"):
        assert not offenders(package, "tests", "pytest", "hypothesis", "mpmath")


def test_only_the_race_against_peers_imports_one():
    for package in ("core", "backends", "studies"):
        found = offenders(package, "diffusers", "denoising_diffusion_pytorch")
        assert all(name.startswith("studies/throughput/peers.py ") for name in found)


def run_python(code: str) -> str:
    """What `code` prints in a fresh interpreter that sees only the site-packages and this checkout."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(statement: str) -> set[str]:
    """Top-level and dotted names of the modules in sys.modules after `statement`."""
    return set(json.loads(run_python(f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))")))


def test_schedules_bring_nothing_but_numpy():
    """`import core.schedules` loads no scipy, no pandas and no framework."""
    new = loaded_by("import core.schedules") - loaded_by("import numpy, numpy.typing")
    top = {name.split(".")[0] for name in new}
    assert "core" in top
    assert not top & {"scipy", "backends", "studies", *FRAMEWORKS, *STUDY_TOOLS}
    assert {name for name in top if name not in sys.stdlib_module_names} <= {"core", "numpy"}


def test_core_loads_no_framework():
    names = ", ".join(f"core.{path.stem}" for path in modules("core") if path.stem != "__init__")
    top = {name.split(".")[0] for name in loaded_by(f"import {names}")}
    assert not top & {"backends", "studies", *FRAMEWORKS, *STUDY_TOOLS}


def test_schedules_cost_less_than_50_ms():
    """`import core.schedules` adds under 50 ms to `import numpy`.

    The least of seven fresh processes: a busy machine can only add to a time, and the first writes the bytecode. About
    5 ms is usual.
    """
    code = "import numpy, time; start = time.perf_counter(); import core.schedules; print(time.perf_counter() - start)"
    assert min(float(run_python(code)) for _ in range(7)) < 0.050


def test_backends_load_no_framework_until_asked():
    """`import backends`, and asking which are installed, import neither."""
    top = {name.split(".")[0] for name in loaded_by("import backends; backends.installed_backends()")}
    assert not top & (FRAMEWORKS - {"safetensors"})
