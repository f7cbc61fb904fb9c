"""Plants bugs in the modules that a conclusion rests on, and fails unless the tests catch at least 95 in 100 of them.

mutmut plants them, one at a time, and runs the tests that reach each; `[tool.mutmut]` in pyproject.toml lists the
modules and the tests. This script chooses which mutants are tried (by default those of the smallest hashes, so that a
larger sample holds a smaller one), and judges the outcome. A mutant that no test can catch, because it changes nothing,
stands in equivalent.txt with the reason, known by its lines and not by its number.

mutmut leaves out module constants, the defaults of dataclasses, and decorated functions (properties): these have tests
of their own, unmeasured here. What it finds is kept in mutants/: a mutant once caught is not tried again until its
function changes; delete the folder to start afresh.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "mutants"
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
GOAL = 0.95
REACHED_BY_FEW_TESTS = "core.schedules.x__quadratic__mutmut_1"  # mutmut first runs the tests of what it is asked to try
CAUGHT = {1, 3, -24, 24, 36, 152, 255}  # exit codes of mutmut's workers: a failed test, or one that never ends


def main() -> int:
    options = _options()
    if not (FOUND / "mutmut-stats.json").exists():
        _run(options.workers, [REACHED_BY_FEW_TESTS])  # the mutants have no names until some are run
    drawn = sample(_outcomes(), options.sample, options.seed, options.only)
    _run(options.workers, (name for name, code in drawn.items() if code not in CAUGHT))
    outcomes = _outcomes()
    return judge({name: outcomes[name] for name in drawn}, len(outcomes), options.seed)


def sample(outcomes: dict[str, int | None], count: int | None, seed: int, only: str) -> dict[str, int | None]:
    """The `count` mutants of the smallest hashes, of those whose name begins with `only`."""
    chosen = [name for name in outcomes if name.startswith(only)]
    chosen.sort(key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return {name: outcomes[name] for name in chosen[:count]}


def judge(outcomes: dict[str, int | None], of: int, seed: int) -> int:
    """Prints each survivor's lines and the table of modules; 0 if the share caught reaches `GOAL`."""
    equivalent = read_equivalent(EQUIVALENT.read_text())
    table: dict[str, Counter[str]] = {}
    for name in sorted(outcomes):
        function, diff = function_of(name), None
        if outcomes[name] in CAUGHT:
            verdict = "caught"
        else:
            diff = changed_lines(_mutmut("show", name))
            verdict = "equivalent" if (function, diff) in equivalent else "survived"
        if verdict == "survived":
            print(f"\n# {name} (exit {outcomes[name]})\n{function}\n{diff}")
        table.setdefault(module_of(name), Counter())[verdict] += 1
    table["all"] = sum(table.values(), Counter())
    print(f"\n{len(outcomes)} of {of} mutants tried, those of the smallest hashes with seed {seed}\n")
    print(f"{'module':44}{'mutants':>9}{'caught':>9}{'survived':>9}{'equivalent':>11}{'share':>9}")
    for module, counts in table.items():
        print(
            f"{module:44}{counts.total():9}{counts['caught']:9}{counts['survived']:9}{counts['equivalent']:11}"
            f"{share_caught(counts):9.1%}"
        )
    return int(share_caught(table["all"]) < GOAL)


def share_caught(counts: Counter[str]) -> float:
    """Caught of what is not equivalent; 1 where nothing is left."""
    real = counts["caught"] + counts["survived"]
    return counts["caught"] / real if real else 1.0


def read_equivalent(text: str) -> set[tuple[str, str]]:
    """(function, changed lines) of each entry: a function's name, its `-` and `+` lines, and a line `= the reason`."""
    entries = set()
    for block in re.split(r"\n\s*\n", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip()):
        if not block:
            continue
        function, *lines = block.splitlines()
        diff, reason = [line for line in lines if line[0] in "+-"], [line for line in lines if line[0] == "="]
        if not diff or len(reason) != 1 or len(diff) + 1 != len(lines):
            raise ValueError(f"an entry is a function, its - and + lines and one line '= reason', got\n{block}")
        entries.add((function, "\n".join(diff)))
    return entries


def changed_lines(diff: str) -> str:
    """The removed and added lines of a unified diff, without their indentation."""
    lines = [line for line in diff.splitlines() if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines)


def module_of(name: str) -> str:
    """core.schedules of core.schedules.x_linear__mutmut_3."""
    return name.rpartition(".")[0]


def function_of(name: str) -> str:
    """core.a.f of core.a.x_f__mutmut_3, core.a.Class.method of core.a.xǁClassǁmethod__mutmut_1."""
    module, _, mangled = name.rpartition("__mutmut_")[0].rpartition(".")
    return f"{module}." + (mangled[2:].replace("ǁ", ".") if mangled.startswith("xǁ") else mangled.removeprefix("x_"))


def _outcomes() -> dict[str, int | None]:
    """Name -> exit code of its worker, None if not tried, of every mutant."""
    metas = sorted(FOUND.rglob("*.meta"))
    return {name: code for meta in metas for name, code in json.loads(meta.read_text())["exit_code_by_key"].items()}


def _mutmut(*arguments: str) -> str:
    """mutmut's output."""
    command = [Path(sys.executable).with_name("mutmut"), *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _run(workers: int, names: Iterable[str]) -> None:
    """mutmut's trial of the mutants of these names, which writes to the terminal."""
    if names := list(names):
        command = [Path(sys.executable).with_name("mutmut"), "run", "--max-children", str(workers), *names]
        subprocess.run(command, cwd=ROOT, check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=400, help="how many mutants (default: %(default)s)")
    parser.add_argument("--all", dest="sample", action="store_const", const=None, help="every mutant")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    parser.add_argument("--only", default="", help="mutants whose name begins so: core.schedules.")
    parser.add_argument("--workers", type=int, default=2, help="mutants run at once (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
