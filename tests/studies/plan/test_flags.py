"""Command lines and settings files: groups and choices in --help, what goes over what, bad values in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from core.objectives import OBJECTIVES
from studies.estimators.settings import EstimatorSettings, parse_estimator_settings
from studies.plan.command import read_recorded, to_json
from studies.plan.flags import one_line
from studies.plan.settings import StudySettings, parse_settings
from studies.samplers.settings import SamplerSettings, parse_sampler_settings
from studies.throughput.settings import ThroughputSettings, parse_throughput_settings

PARSERS: dict[Any, Any] = {
    StudySettings: parse_settings,
    SamplerSettings: parse_sampler_settings,
    EstimatorSettings: parse_estimator_settings,
    ThroughputSettings: parse_throughput_settings,
}


HEADINGS = ["run", "data", "comparison", "network", "training", "measurement", "execution"]


def write_settings(folder: Path, settings: Any, **changes: Any) -> Path:
    """A run's folder with a settings.json of these settings."""
    folder.mkdir(exist_ok=True)
    values = {"study": "compare_objectives", **json.loads(to_json(settings)), **changes}
    (folder / "settings.json").write_text(json.dumps(values))
    return folder


def help_of(parse: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit, match="0"):
        parse(["--help"], description="")
    return capsys.readouterr().out


def groups_in(text: str) -> dict[str, list[str]]:
    """The flags under each heading, in the order printed; boxes are drawn in lines or in ASCII."""
    groups: dict[str, list[str]] = {}
    for line in (line.strip("╭─╮│ ") for line in text.splitlines()):
        if line.removesuffix("options").strip() in HEADINGS:
            groups[line.removesuffix(" options")] = []
        elif line.startswith("--") and line.strip("-"):
            next(reversed(groups.values())).append(line.split()[0].rstrip(","))
    return groups


def test_flags_stand_in_groups(capsys, monkeypatch):
    groups = groups_in(help_of(parse_settings, capsys, monkeypatch))
    assert list(groups) == HEADINGS
    assert groups["run"] == ["--preset", "--out", "--config"]
    assert "--dataset" in groups["data"]
    assert {"--objectives", "--backends", "--schedules", "--seeds", "--first-variance"} <= set(groups["comparison"])
    assert {"--widths", "--norm-groups", "--mlp-depth"} <= set(groups["network"])
    assert {"--train-steps", "--ema-decay", "--timesteps", "--dtypes"} <= set(groups["training"])
    assert {"--bound-se", "--flow-examples", "--sampler", "--clip-x-0"} <= set(groups["measurement"])
    assert {"--tensorboard", "--device", "--threads"} <= set(groups["execution"])


@pytest.mark.parametrize("kind", PARSERS)
def test_every_setting_has_a_flag(kind, capsys, monkeypatch):
    """In one group each."""
    groups = groups_in(help_of(PARSERS[kind], capsys, monkeypatch))
    flags = sorted(flag for group in groups.values() for flag in group)
    assert flags == sorted([f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(kind)] + ["--config"])


def test_choices_are_names(capsys, monkeypatch):
    """Also those that somebody added to a table."""
    monkeypatch.setitem(OBJECTIVES, "mine", OBJECTIVES["hybrid"])
    text = help_of(parse_settings, capsys, monkeypatch)
    assert "--objectives [{epsilon_mse,posterior_kl,target_mse,hybrid,mine} [...]]" in text
    assert "--together {auto,on,off}" in text
    assert parse_settings(["--objectives", "mine"], "").objectives == ("mine",)


def test_what_goes_over_what(tmp_path):
    """A study's own values, a settings file, the preset, the flags: each over those before it."""
    recorded = StudySettings(
        preset="smoke", out=tmp_path / "run", train_steps=70, batch_size=9, widths=(8, 8), seeds=7, mlp_depth=2
    )
    run = write_settings(tmp_path / "run", recorded)
    base = {"mlp_depth": 4, "schedules": ("cosine",)}
    assert parse_settings(["--config", str(run)], "", base) == recorded
    assert parse_settings([f"--config={run / 'settings.json'}", "--seeds", "5"], "", base) == recorded.replace(seeds=5)
    both = parse_settings(["--preset", "smoke", "--config", str(run), "--batch-size", "10"], "", base)
    smoke = parse_settings(["--preset", "smoke"], "")
    assert (both.train_steps, both.widths, both.seeds) == (smoke.train_steps, smoke.widths, smoke.seeds)
    assert (both.batch_size, both.mlp_depth, both.schedules) == (10, 2, ("linear",))


def test_a_file_of_before_a_setting_was_one(tmp_path):
    run = write_settings(tmp_path / "run", StudySettings(seeds=4))
    values = json.loads((run / "settings.json").read_text())
    for later in ("timesteps", "dtypes", "together"):
        del values[later]
    (run / "settings.json").write_text(json.dumps(values))
    assert parse_settings(["--config", str(run)], "") == StudySettings(seeds=4)


@pytest.mark.parametrize(
    "settings",
    [
        StudySettings(clip_norm=None, bound_se=0.25, attention_levels=(1,), out=Path("a/b")),
        SamplerSettings(steps=(3, 4), cells=("seed=0,1",), clip_x_0=2.5),
        EstimatorSettings(run=Path("runs/mine"), examples=(0, 9)),
        ThroughputSettings(growth=False, clock="cpu", block_seconds=2.0),
    ],
)
def test_every_study_takes_its_settings_file(tmp_path, settings):
    run = write_settings(tmp_path / "run", settings)
    assert PARSERS[type(settings)](["--config", str(run)], "") == settings


def test_the_last_of_a_flag_counts():
    assert parse_settings(["--preset", "smoke", "--preset=default"], "") == StudySettings()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_steps": "20"}, "--num-steps is a whole number, got '20'"),
        ({"num_steps": 20.0}, "--num-steps is a whole number, got 20.0"),
        ({"num_steps": True}, "--num-steps is a whole number, got True"),
        ({"num_steps": None}, "--num-steps is a whole number, got None"),
        ({"num_steps": [20]}, "--num-steps is a whole number, got a list"),
        ({"widths": 8}, "--widths is a list, got 8"),
        ({"widths": [8, [8]]}, "--widths is a whole number, got a list"),
        ({"widths": {"8": 8}}, "--widths is a list, got an object"),
        ({"learning_rate": "fast"}, "--learning-rate is a number, got 'fast'"),
        ({"mid_attention": 1}, "--mid-attention is true or false, got 1"),
        ({"dataset": 7}, "--dataset is text, got 7"),
        ({"out": None}, "--out is a path, got None"),
        ({"objectives": ["gan"]}, "--objectives is one of epsilon_mse, posterior_kl, target_mse, hybrid, got 'gan'"),
        ({"objectives": "hybrid"}, "--objectives is a list, got 'hybrid'"),
        ({"sampler": []}, "--sampler is one of ancestral, ddim, dpm_solver, got a list"),
        ({"speed": 7}, "settings file has unknown entries speed; it was written by another version"),
    ],
)
def test_a_settings_file_with_another_type(tmp_path, changes, said):
    run = write_settings(tmp_path / "run", StudySettings(), **changes)
    with pytest.raises(ValueError, match=r"\S") as refused:
        parse_settings(["--config", str(run)], "")
    assert str(refused.value) == f"--config {run / 'settings.json'}, of compare_objectives: {said}"


@pytest.mark.parametrize("kind", [ThroughputSettings, SamplerSettings, EstimatorSettings])
def test_the_settings_file_of_another_study(tmp_path, kind):
    run = write_settings(tmp_path / "run", StudySettings())
    with pytest.raises(ValueError, match="of compare_objectives: settings file has unknown entries attention_levels, "):
        PARSERS[kind](["--config", str(run)], "")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '"words"', "\xff\xfe", "[" * 100_000, '{"seeds": ' + "9" * 5000]
)
def test_what_is_no_settings_file(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_bytes(content.encode("latin-1"))
    for read in (lambda: parse_settings(["--config", str(path)], ""), lambda: read_recorded(tmp_path, StudySettings)):
        with pytest.raises(ValueError, match=r"\S") as refused:
            read()
        assert "settings.json" in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1


def test_a_settings_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"\S") as refused:
        parse_settings(["--config", str(tmp_path / "no")], "")
    said = "No such file or directory; give a run's folder, or its file of settings"
    assert str(refused.value) == f"--config {tmp_path / 'no'}: {said}"


@pytest.mark.parametrize("content", ["{}", '{"study": "compare_prices"}'])
def test_a_settings_file_without_settings(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"\S") as refused:
        parse_settings(["--config", str(path)], "")
    assert str(refused.value) == f"--config {path} holds no settings; give a run's folder, or its file of settings"


def test_values_of_a_file_are_checked_as_flags_are(tmp_path):
    run = write_settings(tmp_path / "run", StudySettings(), num_steps=-5)
    with pytest.raises(ValueError, match="--num-steps is at least 1, got -5"):
        parse_settings(["--config", str(run)], "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--num-steps x", "Error parsing --num-steps: invalid literal for int() with base 10: 'x'"),
        ("--objectives gan", "invalid choice 'gan' for argument '--objectives'. Expected one of ('epsilon_mse', "
         "'posterior_kl', 'target_mse', 'hybrid')"),
        ("--no-such 4", "Unrecognized options: --no-such, 4"),
        ("--out", "Missing value for argument '--out'. Expected 1 values"),
    ],
)  # fmt: skip
def test_words_that_are_no_command(words, said):
    with pytest.raises(ValueError, match=r"\S") as refused:
        parse_settings(words.split(), "")
    assert str(refused.value) == f"{said}; --help lists the flags and what they take"


def test_long_words_are_cut():
    with pytest.raises(ValueError, match=r"\S") as refused:
        parse_settings(["--num-steps", "9" * 5000], "")
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "box",
    [
        "╭─ Value error ─────╮\n│ It is so long │\n│ that it wraps. │\n│ ───── │\n│ For full helptext │\n╰────╯",
        " Value error \n ----------- \n It is so long\n that it wraps.\n ------ \n For full helptext",
        "\x1b[31m╭─\x1b[0m Value error ──╮\n\x1b[31m│\x1b[0m \x1b[1mIt is\x1b[0m so long that it wraps │\n╰──╯",
        "It is so long that\n\nit wraps",
    ],
)
def test_a_box_in_one_line(box):
    """Drawn for a terminal, in ASCII, in colours; and whatever else it may be."""
    said = "It is so long that it wraps; --help lists the flags and what they take"
    assert one_line(box) == said
