"""Files of a run that hold something else: one line that names the file, whatever reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from studies.store.cells import Cell
from studies.store.files import (
    failure,
    first_stage,
    read_arrays,
    read_rows,
    row,
    write_arrays,
    write_finished,
    write_rows,
)
from studies.store.folder import RunFolder, read_json
from studies.store.reading import read_run, result_rows

CELL = Cell("digits", "linear", "epsilon", "beta_tilde", "hybrid", "torch", 0)


@pytest.fixture
def run(tmp_path):
    """A run of one finished cell."""
    folder = RunFolder(tmp_path)
    folder.settings.write_text('{"study": "compare_objectives"}')
    folder.cell(CELL.id).path.mkdir(parents=True)
    write_finished(folder.cell(CELL.id), CELL, {}, [row("bound", 3.0, "bits/dim")])
    folder.results.write_bytes(folder.cell(CELL.id).rows.read_bytes())
    return folder


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_what_is_no_json(tmp_path, content):
    """A number of thousands of digits and lists in lists among it: Python reads neither."""
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json: expected JSON, got [^\n]*; was it written to the end\?$"):
        read_json(path)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"factors": None},
        {"factors": []},
        {"factors": {"seed": 0}},
        {"factors": {**vars(CELL), "seed": "0"}},
        {"factors": {**vars(CELL), "seed": True}},
        {"factors": {**vars(CELL), "seed": [0]}},
        {"factors": {**vars(CELL), "dataset": 7}},
        {"factors": {**vars(CELL), "schedule": {}}},
        {"factors": {**vars(CELL), "colour": "red"}},
    ],
)
def test_what_is_no_record_of_a_cell(run, record):
    folder = run.cell(CELL.id)
    assert folder.read_cell() == CELL
    folder.record.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"cell\.json is not the record of a cell; remove .* to run it anew$"):
        folder.read_cell()


@pytest.mark.parametrize("record", [{"factors": [1]}, {"factors": {}, "description": "words"}])
def test_a_report_of_a_cell_that_is_none(run, record):
    assert read_run(run.path).cells[0].finished
    run.cell(CELL.id).record.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"cell\.json is not the record of a cell"):
        read_run(run.path)


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04", "half", "flipped"])
def test_what_are_no_arrays(tmp_path, content):
    path = tmp_path / "a.npz"
    assert read_arrays(path) == {}
    write_arrays(path, {"x": np.arange(1000.0)})
    whole = path.read_bytes()
    np.testing.assert_array_equal(read_arrays(path)["x"], np.arange(1000.0))
    broken = {"half": whole[: len(whole) // 2], "flipped": whole[:200] + bytes(8) + whole[208:]}
    path.write_bytes(broken.get(content, content))
    with pytest.raises(ValueError, match=r"a\.npz: expected arrays, got [^\n]*; was it written to the end\?$"):
        read_arrays(path)


@pytest.mark.parametrize("content", ["", "\x00", "a,b\n1,2,3\n1,2,3,4\n"])
def test_what_is_no_table(run, content):
    run.results.write_text(content)
    with pytest.raises(ValueError, match=r"results\.csv: expected "):
        result_rows(run.path)


@pytest.mark.parametrize("name", ["value", "seed", "standard_error"])
def test_words_where_numbers_are(run, name):
    write_rows(run.results, [{**vars(CELL), **row("bound", 3.0, "bits/dim"), name: "much"}])
    with pytest.raises(ValueError, match=rf"results\.csv: expected numbers in the column {name}, got others"):
        read_rows(run.results)


@pytest.mark.parametrize("content", ['{"first_stage": "2"}', "{}", '{"first_stage": 2.5}'])
def test_a_first_stage_that_is_no_number(run, content):
    run.sequential.write_text(content)
    with pytest.raises(ValueError, match=r"sequential\.json: expected a number first_stage"):
        first_stage(run.path)


@pytest.mark.parametrize(("content", "reason"), [(b"", "no reason was recorded"), (b"\xff: a\nb", "�: a"), (b"a", "a")])
def test_a_failure_that_says_little(run, content, reason):
    run.cell(CELL.id).failure.write_bytes(content)
    assert failure(run.path, CELL.id) == reason
