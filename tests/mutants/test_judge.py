"""What the mutation run is judged by: names, lines, the list of equivalent mutants, and the share."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.mutants import judge

SHOWN = """\
# core.schedules.x_linear__mutmut_3: survived
--- core/schedules.py
+++ core/schedules.py
@@ -1,2 +1,2 @@
 def linear(num_steps):
-    return 1 - num_steps
+    return 1 + num_steps
"""


def test_a_mutant_is_known_by_its_lines():
    """Function and changed lines, without number or indentation, are what an entry of the list holds."""
    entry = "core.schedules.linear\n- return 1 - num_steps\n+ return 1 + num_steps\n= because\n"
    key = (judge.function_of("core.schedules.x_linear__mutmut_3"), judge.changed_lines(SHOWN))
    assert judge.read_equivalent(f"# a note\n\n{entry}\n{entry.replace('linear', 'cosine')}") == {
        key,
        ("core.schedules.cosine", key[1]),
    }
    assert judge.function_of("core.reverse.xǁReverseProcessǁsplit__mutmut_1") == "core.reverse.ReverseProcess.split"
    assert judge.module_of("core.reverse.xǁReverseProcessǁsplit__mutmut_1") == "core.reverse"


@pytest.mark.parametrize("lost", ["= because", "+ return 1 + num_steps\n- return 1 - num_steps"])
def test_an_entry_has_lines_and_a_reason(lost):
    """An entry without its lines or without a reason excuses nothing: it is refused."""
    entry = "core.schedules.linear\n+ return 1 + num_steps\n- return 1 - num_steps\n= because"
    with pytest.raises(ValueError, match="an entry is a function"):
        judge.read_equivalent(entry.replace(lost, "").replace("\n\n", "\n"))


def test_a_sample_holds_the_smaller_ones():
    """The mutants of the smallest hashes: the same for the same seed, others for another, and nested."""
    outcomes = dict.fromkeys([f"core.a.x_f__mutmut_{i}" for i in range(100)] + ["studies.b.x_g__mutmut_1"])
    small, large = (set(judge.sample(outcomes, count, 0, "core.")) for count in (10, 30))
    assert len(small) == 10
    assert small < large
    assert set(judge.sample(outcomes, 10, 1, "core.")) != small
    assert set(judge.sample(outcomes, None, 0, "")) == set(outcomes)


def test_the_share_leaves_out_what_changes_nothing():
    """Caught of caught and survived."""
    assert judge.share_caught(Counter(caught=3, survived=1, equivalent=6)) == 0.75
    assert judge.share_caught(Counter(equivalent=2)) == 1
