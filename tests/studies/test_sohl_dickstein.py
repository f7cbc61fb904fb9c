"""The 2015 recipe as a study: the roll's density, bits and gain, conditional samples, and the command as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

from backends import installed_backends
from studies.datasets import load_dataset
from studies.datasets.swiss_roll import NOISE, THIN_NOISE, log_density
from studies.sohl_dickstein.results import gains, isotropic_bits

ROOT = Path(__file__).resolve().parents[2]


def test_the_roll_has_a_density():
    """It integrates to 1, and its mean over test points is what the roll's length and thickness leave."""
    grid = np.linspace(-2.6, 2.6, 131)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    assert np.exp(log_density(points, NOISE)).sum() * (grid[1] - grid[0]) ** 2 == pytest.approx(1, abs=1e-4)
    for name, noise in (("swiss_roll", NOISE), ("swiss_roll_thin", THIN_NOISE)):
        dataset = load_dataset(name, 300)
        found = log_density(dataset.test, noise).mean()
        # Uniform in angle over 3 pi, so spread along the curve by its speed, and normal across it.
        angle = 1.5 * np.pi * (1 + 2 * (np.arange(10_000) + 0.5) / 10_000)
        along = np.log(3 * np.pi) + np.mean(0.5 * np.log(1 + angle**2))
        across = 0.5 * np.log(2 * np.pi * np.e * noise**2)
        raw = 6.95  # the standard deviation that the roll is divided by
        assert -found == pytest.approx(along + across - 2 * np.log(raw), abs=0.15)


def test_the_gaussian_is_isotropic_and_of_the_training_set():
    dataset = load_dataset("swiss_roll", 50)
    mean = dataset.train.mean(axis=0)
    variance = np.mean((dataset.train - mean) ** 2)
    expected = multivariate_normal(mean, variance * np.eye(2)).logpdf(dataset.test) / np.log(2)
    np.testing.assert_allclose(isotropic_bits(dataset), expected, rtol=1e-12)


def test_on_levels_the_gaussian_has_masses():
    """Those of the bins around the levels, by differences of scipy's CDF; the outermost reach to infinity."""
    dataset = load_dataset("digits", 40)
    train, test = dataset.train.reshape(len(dataset.train), -1), dataset.test.reshape(40, -1)
    gaussian = norm(train.mean(axis=0), np.sqrt(np.mean((train - train.mean(axis=0)) ** 2)))
    half = 1 / (dataset.levels - 1)
    upper = np.where(test > 1 - half, 1, gaussian.cdf(test + half))
    lower = np.where(test < -1 + half, 0, gaussian.cdf(test - half))
    np.testing.assert_allclose(isotropic_bits(dataset), np.log2(upper - lower).sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize(("name", "bits_of"), [("swiss_roll", "density"), ("digits", "probability")])
def test_the_papers_numbers_stand_beside_its_own_data_alone(name, bits_of):
    dataset = load_dataset(name, 40)
    columns = {"recipe": "a", "backend": "torch", "metric": "bound", "value": [2.0, 2.5]}
    table = gains(SimpleNamespace(rows=pd.DataFrame(columns)), dataset).set_index("name")
    held_against = {"isotropic Gaussian", "true density", "the paper's, on its roll"}
    assert held_against & set(table.index) == (held_against if name == "swiss_roll" else {"isotropic Gaussian"})
    assert set(table["bits_of"]) == {bits_of}
    null = isotropic_bits(dataset).mean()
    assert table["gain_bits"].iloc[0] == pytest.approx(-2.25 * dataset.dims - null, rel=1e-12)


def test_the_command_reports_bits_gain_and_conditional_samples(tmp_path):
    """A tiny study of one framework: bits are minus the bound over both dims; what is given comes out as given."""
    run = tmp_path / "run"
    words = ["--train-steps", "20", "--warmup-steps", "5", "--seeds", "1", "--mlp-width", "16", "--mlp-depth", "1"]
    words += ["--test-examples", "60", "--samples", "24", "--batch-size", "32", "--backends", installed_backends()[0]]
    words += ["--schedules", "learned-log-linear", "--flow-examples", "0"]
    command = [sys.executable, "studies/sohl_dickstein_2015.py", *words, "--out", str(run)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    table, rows = pd.read_csv(run / "gain.csv"), pd.read_csv(run / "results.csv")
    bound = rows[rows["metric"] == "bound"]["value"].item()
    assert table["bound_bits"][0] == pytest.approx(-2 * bound, rel=1e-12)
    known = table.set_index("name")
    null = known.loc["isotropic Gaussian", "bound_bits"]
    np.testing.assert_allclose(table["gain_bits"][:-1], table["bound_bits"][:-1] - null, rtol=1e-9, atol=1e-9)
    assert known.loc["true density", "bound_bits"] == pytest.approx(2.4, abs=0.3)
    assert "true density" in done.stdout.split("Lower bound on the log likelihood")[1]
    samples = np.load(run / "conditional.npz")
    assert samples["denoised"].shape == samples["observed"].shape == (60, 2)
    np.testing.assert_allclose(samples["completed"][:, 0], np.repeat([-0.9, 0.0, 0.9], 150), rtol=1e-6, atol=1e-6)
    page = (run / "report.html").read_text()
    for title in ("Denoised and completed", "its gain over a Gaussian", "What the learned schedule became"):
        assert title in page
