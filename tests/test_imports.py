"""The arrows between packages point one way, and core stays light: read from the source, timed in fresh processes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Collection
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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = source_of(node, path)
            names.update(f"{module}.{alias.name}" for alias in node.names)
            names.add(module)
    return names


def source_of(node: ast.ImportFrom, path: Path) -> str:
    """The module after `from`, a relative one by its whole name."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
    return ".".join(part for part in (above, node.module) if part)


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


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The groups of names each of which leads back to itself through the others (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        path.append(name)
        for target in sorted(arrows.get(name, ())):
            if target not in order:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in path:
                lowest[name] = min(lowest[name], order[target])
        if lowest[name] == order[name]:
            group = path[path.index(name) :]
            del path[path.index(name) :]
            groups.append(sorted(group))

    for name in sorted(arrows):
        if name not in order:
            visit(name)
    return [group for group in groups if len(group) > 1]


def arrows_between_files() -> dict[str, set[str]]:
    """For every file of the project the files it imports, by dotted name."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("core", "backends", "studies")
        for path in modules(package)
    }
    return {name: files_imported(path, files.keys()) - {name} for name, path in files.items()}


def files_imported(path: Path, files: Collection[str]) -> set[str]:
    """`from a import b` is of the file a.b where there is one, and else of a."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = source_of(node, path)
            members = {f"{module}.{alias.name}" for alias in node.names}
            names.update(member if member in files else module for member in members)
    return names & set(files)


def room_of(name: str) -> str:
    """The folder a file is in; the figures of a report are in its room."""
    parts = name.split(".")
    if name not in ROOMS:
        parts = parts[:-1]
    return ".".join(parts[:2])


ROOMS = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in ("core", "backends", "studies")
    for path in (ROOT / package).rglob("__init__.py")
}


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]
    arrows = arrows_between_files()
    assert "studies.cell.stages" in arrows["studies.cell.__main__"]
    assert "studies.reporting.page" in arrows["studies.study"]  # inside a function
    assert "backends.states" in arrows["backends.groups"]
    assert "backends" in arrows["studies.cell.stages"]  # load_backend


def test_no_file_imports_itself_through_others():
    """No circle, imports within functions counted: a file can be read after those it needs."""
    assert circles(arrows_between_files()) == []


def test_no_room_imports_itself_through_others():
    """Nor is there one between folders."""
    between: dict[str, set[str]] = {}
    for name, targets in arrows_between_files().items():
        between.setdefault(room_of(name), set()).update({room_of(other) for other in targets} - {room_of(name)})
    assert {"core", "backends", "backends.torch", "studies", "studies.cell", "studies.reporting"} <= between.keys()
    assert circles(between) == []


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

    Processor time, and the least of seven fresh processes: a busy machine can only add to it, and the first writes the
    bytecode. About 5 ms is usual.
    """
    code = "import numpy, time; start = time.process_time(); import core.schedules; print(time.process_time() - start)"
    assert min(float(run_python(code)) for _ in range(7)) < 0.050


def test_backends_load_no_framework_until_asked():
    """`import backends`, and asking which are installed, import neither."""
    top = {name.split(".")[0] for name in loaded_by("import backends; backends.installed_backends()")}
    assert not top & (FRAMEWORKS - {"safetensors"})
