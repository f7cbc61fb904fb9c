"""What a cell says of a trained model's likelihood, on a mixture whose density is known: in order, as it must be."""

from __future__ import annotations

import numpy as np
import pytest

from backends import installed_backends, load_backend
from backends.networks import initial_weights
from studies.cell.draws import training_draws
from studies.cell.likelihood import likelihood
from studies.cell.model import TrainedModel, starting_process
from studies.datasets import load_dataset
from studies.plan.settings import StudySettings
from studies.store.cells import Cell

CASES = [(backend, objective) for backend in installed_backends() for objective in ("epsilon_mse", "posterior_kl")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def rows(request):
    """The rows of a small perceptron after 300 steps on the eight components, by metric."""
    backend_name, objective = request.param
    backend, dataset = load_backend(backend_name), load_dataset("mixture", 400)
    settings = StudySettings(
        dataset="mixture", train_steps=300, warmup_steps=10, num_steps=100, mlp_width=48, mlp_depth=2, batch_size=128,
        learning_rate=5e-3, flow_examples=16,
    )  # fmt: skip
    cell = Cell("mixture", "linear-scaled", "epsilon", "beta_tilde", objective, backend_name, 0)
    process, execution = starting_process(cell, settings, dataset), settings.execution(cell.dtype)
    network_settings = settings.network(dataset.shape, process.learns_variance)
    network = backend.make_network(network_settings, initial_weights(network_settings, 0), execution)
    trainer = backend.place(network, process, execution).trainer(objective, settings.recipe())
    for step in range(1, settings.train_steps + 1):
        trainer.step(training_draws(dataset.train, 0, step, settings.batch_size, process.num_steps))
    trained = backend.make_network(network_settings, trainer.weights(ema=True), execution)
    model = TrainedModel(backend.place(trained, process, execution), dataset.shape, 0)
    parts = likelihood(model, dataset, settings, lambda *_: None)
    return {row["metric"]: row for measure in parts.values() for row in measure() if "t" not in row}


def test_flow_is_at_most_the_bound(rows):
    """The same examples have a higher likelihood by the flow than the bound can show, beyond the error bar."""
    difference = rows["flow_minus_bound"]
    assert difference["value"] == pytest.approx(rows["flow_decoder"]["value"] - rows["flow_bound"]["value"])
    assert 0 < difference["standard_error"] < 0.2
    assert difference["value"] < 2 * difference["standard_error"]
    assert rows["flow_examples"]["value"] == 16
    assert rows["flow_decoder_unresolved"]["value"] == 0


def test_everything_is_above_the_truth(rows):
    """Bound > flow > entropy in expectation, and the bound is the oracle's plus what the network adds."""
    above = rows["bound_above_entropy"]
    assert above["value"] > 4 * above["standard_error"]
    gap = rows["bound"]["value"] - rows["entropy"]["value"]
    assert gap == pytest.approx(above["value"], abs=4 * rows["bound_data_se"]["value"])
    assert rows["flow_decoder"]["value"] > rows["entropy"]["value"] - 4 * rows["flow_decoder_total_se"]["value"]
    parts = rows["bound_floor"]["value"] + rows["bound_above_floor"]["value"]
    errors = [rows[name]["standard_error"] for name in ("bound_floor", "bound_above_floor")]
    assert abs(rows["bound"]["value"] - parts) < 4 * np.linalg.norm([*errors, rows["bound_total_se"]["value"]])


def test_rate_and_distortion_are_there(rows):
    assert rows["rate"]["value"] + rows["distortion"]["value"] == pytest.approx(rows["bound"]["value"], rel=1e-9)
    for stage in ("bound", "floors", "flow"):
        assert rows[f"{stage}_seconds"]["value"] > 0
