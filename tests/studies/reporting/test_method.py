"""What the report's section on method says of the data's scale and of the chain's end."""

from __future__ import annotations

import json

import numpy as np

from studies.reporting.page import _method
from studies.store.reading import read_run, side_by_side
from tests.studies.synthetic_run import make_run


def test_the_rule_and_what_it_adds_are_said(tmp_path):
    """8 and 2 times as large: 3 and 1 bits, 2 on average."""
    run = make_run(tmp_path / "run", dataset="swiss_roll", seeds=1, samples=False)
    before = _method(read_run(run))
    assert not any("scaled" in line for line in before)
    reference = dict(np.load(run / "reference.npz"))
    np.savez(run / "reference.npz", **reference, scale_centre=np.zeros(2), scale_factor=np.array([8.0, 2.0]))
    (run / "settings.json").write_text(
        json.dumps({**json.loads((run / "settings.json").read_text()), "scale": "minmax"})
    )
    after = _method(read_run(run))
    (said,) = (line for line in after if line not in before)
    assert said.startswith("The data were scaled by “minmax”, with a centre and a factor for each column or channel")
    assert "those of the scaled data and 2.000 bits/dim, the mean log₂ of the factors" in said
    assert not any("does not end in noise" in line for line in after)


def test_runs_of_other_scales_have_no_examples_in_common(tmp_path):
    """Pictures and scales of one would be shown as those of both; a run from before there were scales has none."""
    older, newer = (make_run(tmp_path / name, dataset="swiss_roll", seeds=1, samples=False) for name in ("a", "b"))
    assert side_by_side([read_run(older), read_run(newer)]).reference
    for scale, common in (("none", True), ("standard", False)):
        settings = json.loads((newer / "settings.json").read_text())
        (newer / "settings.json").write_text(json.dumps({**settings, "scale": scale}))
        assert bool(side_by_side([read_run(older), read_run(newer)]).reference) == common
