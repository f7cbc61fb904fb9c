"""Examples encoded, mixed and decoded: against closed forms of Gaussian data, and as the study of samplers runs it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backends import installed_backends
from backends.checkpoints import save_network
from backends.networks import initial_weights
from core.oracles import GaussianMixture, optimal_output
from core.reverse import ReverseProcess, reverse_process
from core.schedules import from_log_snr
from studies.cell.model import TrainedModel
from studies.compare_samplers import main
from studies.datasets import Dataset
from studies.plan.command import to_json
from studies.plan.grid import grid
from studies.plan.settings import StudySettings
from studies.samplers.cell import run_cell
from studies.samplers.interpolation import SHARES, encode, interpolate
from studies.samplers.settings import SamplerSettings
from studies.samplers.study import check_interpolations
from studies.store import files
from studies.store.folder import CellFolder, RunFolder
from studies.store.sampler_chains import Chain

MEAN, STD = np.array([0.4, -0.2, 0.1]), 0.6
DATA = GaussianMixture([1.0], [MEAN], [STD**2])


@dataclass(frozen=True)
class Exact:
    """A placed model whose network is the exact denoiser of the Gaussian data, in numpy."""

    process: ReverseProcess

    def on(self, process):
        return Exact(process)

    def forward(self):
        return lambda x_t, t: optimal_output(self.process, DATA, x_t, t)

    def sample(self, sampler, x_T, noise, keep=()):
        assert noise is None
        x = x_T
        for t in range(self.process.num_steps, 0, -1):
            steps = np.full(len(x), t)
            x, _ = sampler(self.process, x, optimal_output(self.process, DATA, x, steps), steps, 0 * x)
        return x, {}


def exact_model(num_steps, prediction="epsilon"):
    """Log SNRs from 9 to -9: x_1 is the data to a hundredth."""
    process = reverse_process(from_log_snr(np.linspace(9, -9, num_steps)), prediction)
    return TrainedModel(Exact(process), (3,), 0)


def deviation_at(schedule, t):
    """Of x_t."""
    return np.sqrt(schedule.alpha_bar[t] * STD**2 + schedule.one_minus_alpha_bar[t])


@pytest.mark.parametrize("prediction", ["epsilon", "x_0", "v"])
def test_encoding_and_decoding_tend_to_the_closed_form(prediction):
    """The flow of Gaussian data keeps how many deviations a point is from the mean, so all of it is known.

    Latents, what is decoded of the mixes, and the examples that come back are off by order 1 / T of that.
    """
    ends = np.array([[[1.5, -0.8, 0.3], [-0.2, 0.9, 0.6]], [[0.4, 0.4, 0.4], [1.0, -1.0, 0.0]]])
    errors = []
    for num_steps in (200, 400, 800):
        model = exact_model(num_steps, prediction)
        schedule = model.process.schedule
        made_by = interpolate(model, Chain("ddim", num_steps), ends)
        mean_T = np.sqrt(schedule.alpha_bar[-1]) * MEAN
        latents = mean_T + deviation_at(schedule, num_steps) / STD * (ends - MEAN)
        first, second = latents[:, 0], latents[:, 1]
        theta = np.arccos(
            np.sum(first * second, axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
        )[:, None, None]
        share = SHARES[None, :, None]
        mixed = (np.sin((1 - share) * theta) * first[:, None] + np.sin(share * theta) * second[:, None]) / np.sin(theta)
        decoded = MEAN + STD / deviation_at(schedule, num_steps) * (mixed - mean_T)
        errors.append(
            [
                np.abs(made_by.latents - latents).max(),
                np.abs(made_by.decoded - decoded).max(),
                made_by.round_trip.max(),
            ]
        )
        back = np.sqrt(np.mean((made_by.decoded[:, [0, -1]] - ends) ** 2, axis=2))
        assert made_by.round_trip == pytest.approx(back.reshape(-1), abs=1e-6)
        np.testing.assert_array_equal(made_by.ends, ends.astype(np.float32))
    errors = np.array(errors)
    assert np.all(errors[-1] < 0.02)
    assert np.all(errors[1:] < 0.65 * errors[:-1])  # halved, but for what x_1 is not the data, and rounding


def test_many_examples_are_encoded_in_parts(monkeypatch):
    monkeypatch.setattr("studies.samplers.interpolation.SAMPLE_BATCH", 3)
    x_0 = np.random.default_rng(0).normal(size=(7, 3))
    placed = exact_model(20).placed
    alone = np.concatenate([encode(placed, x_0[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(encode(placed, x_0), alone, rtol=1e-13)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on small images as a study leaves it, with networks that have learned nothing."""
    run = tmp_path_factory.mktemp("between") / "run"
    images = np.random.default_rng(0).normal(0, 0.5, (120, 4, 4, 1)).clip(-1, 1)
    np.savez(run.parent / "images.npz", train=images[:80], test=images[80:])
    settings = StudySettings(
        dataset=str(run.parent / "images.npz"), backends=(installed_backends()[0],), seeds=1, num_steps=30,
        sample_steps=10, widths=(8,), norm_groups=4, attention_levels=(),
    )  # fmt: skip
    files.open_run(run, to_json(settings), "compare_objectives")
    for cell in grid(settings):
        folder, network = RunFolder(run).cell(cell.id).path, settings.network((4, 4, 1), False)
        files.write_json(folder / "cell.json", {"factors": cell.__dict__})
        save_network(folder / "checkpoint.safetensors", initial_weights(network, cell.seed), network)
        files.write_rows(CellFolder(folder).rows, [{**cell.__dict__, **files.row("parameters", 1, "weights")}])
    return run


def compare(run: Path, out: Path, *words: str) -> int:
    chosen = ("--samples", "24", "--samplers", "ddim", "--steps", "10", "30", "--jobs", "1")
    return main(["--run", str(run), "--out", str(out), *chosen, *words])


def measured_here(executor, out, cells, jobs, stages, report) -> int:
    """As `measure_and_report`, in this process."""
    for cell in cells:
        run_cell(out, cell, lambda *progress: None)
    files.gather_results(out, [cell.id for cell in cells])
    report(out)
    return 0


def test_asked_for_they_are_stored_and_drawn(trained, monkeypatch, capsys):
    """An untrained network puts out zeros: x_0_hat = x_t / signal, along which encoding and decoding are exact."""
    monkeypatch.setattr("studies.samplers.study.measure_and_report", measured_here)
    monkeypatch.setattr("studies.samplers.cell.METRICS", ("sliced_w2",))
    out = trained.parent / "samplers"
    assert compare(trained, out, "--interpolations", "2", "--cells", "objective=epsilon_mse") == 0
    (path,) = out.glob("cells/*/interpolations.npz")
    with np.load(path) as stored, np.load(trained.parent / "images.npz") as data:
        np.testing.assert_array_equal(stored["ends"].reshape(4, 4, 4, 1), data["test"][:4].astype(np.float32))
        assert stored["decoded"].shape == (2, 11, 4, 4, 1)
        assert int(stored["steps"]) == 30
        ends, decoded = stored["ends"], stored["decoded"]
    # x_T = x_1 sqrt(alpha_bar_T / alpha_bar_1) and x_0 = x_T / sqrt(alpha_bar_T), so x_0 = x_1 / sqrt(alpha_bar_1).
    ratio = decoded[:, [0, -1]] / ends
    assert ratio.std() / ratio.mean() < 1e-5
    table = pd.read_csv(out / "figures" / "interpolations.csv")
    assert sorted(set(table["what"])) == ["data", "decoded"]
    assert len(table) == 2 * (2 + 11)
    for kind in ("png", "pdf", "svg"):
        assert (out / "figures" / f"interpolations.{kind}").stat().st_size > 500
    page = (out / "report.html").read_text()
    assert "Between two test examples" in page
    assert "DDIM, 30 steps" in page


@pytest.mark.parametrize(
    ("shape", "pairs", "message"),
    [
        ((4, 4, 1), 21, "--interpolations 21 takes 42 test examples, and mine has 40"),
        ((1,), 1, "--interpolations takes data of at least 2 values an example"),
        ((1, 1, 1), 1, "--interpolations takes data of at least 2 values an example"),
    ],
)
def test_what_cannot_be_encoded_is_refused(shape, pairs, message):
    data = np.zeros((40, *shape))
    dataset = Dataset("mine", data, data, None, "made up")
    check_interpolations(SamplerSettings(interpolations=0), dataset)
    with pytest.raises(ValueError, match=message):
        check_interpolations(SamplerSettings(interpolations=pairs), dataset)


def test_a_folder_from_before_they_were_an_option_goes_on(tmp_path):
    """Its settings do not name it, which is as if it were off; and on, it is another study."""
    settings = to_json(SamplerSettings())
    older = json.loads(settings)
    del older["interpolations"]
    files.open_run(tmp_path / "out", json.dumps(older), "compare_samplers")
    files.open_run(tmp_path / "out", settings, "compare_samplers")
    with pytest.raises(ValueError, match="interpolations 0 there, 2 asked"):
        files.open_run(tmp_path / "out", to_json(SamplerSettings(interpolations=2)), "compare_samplers")
