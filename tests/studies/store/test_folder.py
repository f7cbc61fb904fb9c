"""A run's folder has its names in one place: read from the source of everything else."""

from __future__ import annotations

import ast
from pathlib import Path

from studies.store.folder import CellFolder, RunFolder

ROOT = Path(__file__).resolve().parents[3]
OWNER = ROOT / "studies" / "store" / "folder.py"
TEMPLATE = "report.html"
"""A page of the reports' own has the name of what is made of it."""


def names_of(folder: RunFolder | CellFolder) -> set[str]:
    """The names of what lies in a folder."""
    paths = [getattr(folder, name) for name, value in vars(type(folder)).items() if isinstance(value, property)]
    return {path.name for path in paths if isinstance(path, Path)}


NAMES = names_of(RunFolder(Path("run"))) | names_of(CellFolder(Path("cell")))
FILES = {name for name in NAMES if "." in name}


def docstrings(tree: ast.AST) -> set[int]:
    """The nodes that are texts of their own: docstrings, also those below a constant."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def named_in(path: Path) -> list[str]:
    """Names of a run's folder that a module's code joins to a path, or has anywhere in a text, by line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text = docstrings(tree)
    where = path.relative_to(ROOT)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            found += [f"{where}:{node.lineno} {node.right.value}"] * (node.right.value in NAMES)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in text:
            found += [f"{where}:{node.lineno} {name}" for name in sorted(FILES - {TEMPLATE}) if name in node.value]
    return found


def test_no_other_module_names_a_file_of_a_run():
    modules = [path for package in ("core", "backends", "studies") for path in sorted((ROOT / package).rglob("*.py"))]
    assert [line for path in modules if path != OWNER for line in named_in(path)] == []


def test_the_names_are_found_where_they_are():
    """The reader above sees every name in the module that has them all."""
    assert {
        "settings.json", "environment.json", "sequential.json", "reference.npz", "results.csv", "report.html",
        "cell.json", "rows.csv", "failed.txt", "state.safetensors", "checkpoint.safetensors", "weights_sketch.npz",
        "samples.npz", "log.txt", "partial.csv", "checkpoint.sha256",
        "interpolations.npz",
    } == FILES  # fmt: skip
    assert {line.split()[1] for line in named_in(OWNER)} == {*NAMES}


def test_a_cells_folder_is_in_its_runs():
    run = RunFolder(Path("run"))
    assert run.cell("a-0").rows == Path("run/cells/a-0/rows.csv")
    assert run.cell("a-0").id == "a-0"
    assert run.events("a-0") == Path("run/tensorboard/a-0")


def test_cells_begun_are_listed_by_name(tmp_path):
    run = RunFolder(tmp_path)
    for cell_id in ("b", "a"):
        run.cell(cell_id).path.mkdir(parents=True)
    assert [folder.id for folder in run.every_cell()] == ["a", "b"]
