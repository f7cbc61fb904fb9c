"""Rows, floors and the registry: value and floor are one metric at the same sizes, on samples and on data."""

import numpy as np
import pytest

from studies.metrics import METRICS, evaluate, evaluation, learn_features
from studies.metrics.comparison import Comparison
from studies.metrics.frechet import frechet_distance
from studies.metrics.mmd import MULTIPLES
from studies.metrics.neighbours import density_coverage, memorisation_test, precision_recall

CHEAP = ["frechet", "sliced_w2", "mmd2_1", "precision", "recall", "density", "coverage", "memorisation"]
COLUMNS = ["metric", "value", "floor", "unit", "direction", "ideal", "n_samples", "n_reference", "seed"]


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    return {"train": rng.normal(size=(400, 2, 3)), "test": rng.normal(size=(150, 2, 3)), "rng": rng}


def by_name(rows):
    return {row["metric"]: row for row in rows}


def test_a_row_for_each_metric_that_needs_only_data(sets):
    """Tidy rows of plain numbers and words, in the registry's order, with FID on request only."""
    rows = evaluate(sets["rng"].normal(size=(100, 2, 3)), sets["train"], sets["test"])
    assert [row["metric"] for row in rows] == [name for name in METRICS if name != "fid"]
    for row in rows:
        assert list(row) == COLUMNS
        assert isinstance(row["value"], float)
        assert isinstance(row["floor"], float)
        assert np.isfinite([row["value"], row["floor"]]).all()
        assert (row["unit"], row["direction"]) == (METRICS[row["metric"]].unit, METRICS[row["metric"]].direction)
        assert (row["n_samples"], row["n_reference"]) == (100, 150)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_metric_says_what_its_number_means(metric):
    assert METRICS[metric.name] is metric
    assert metric.title
    assert metric.unit
    assert metric.direction in ("lower", "higher")
    assert np.isfinite(metric.ideal)
    assert metric.bias_note.endswith(".")


def test_mmd_has_a_row_for_each_bandwidth():
    assert [name for name in METRICS if name.startswith("mmd2_")] == [f"mmd2_{multiple:g}" for multiple in MULTIPLES]


def test_a_perfect_model_is_at_the_floor(sets):
    """Samples from the data's own distribution: over 30 draws, value minus floor has mean 0 to 4 standard errors.

    Each draw has its own train, test and samples; 8 metrics: false alarm below 8 x 5e-4 (t with 29 degrees).
    """
    rng = np.random.default_rng(1)
    gaps = []
    for seed in range(30):
        samples, train, test = rng.normal(size=(50, 3)), rng.normal(size=(200, 3)), rng.normal(size=(60, 3))
        rows = evaluate(samples, train, test, names=CHEAP, seed=seed)
        gaps.append([row["value"] - row["floor"] for row in rows])
    gaps = np.array(gaps)
    assert np.all(np.abs(gaps.mean(axis=0)) < 4 * gaps.std(axis=0, ddof=1) / np.sqrt(30))


def test_floor_is_the_metric_of_held_out_train_at_the_same_sizes(sets):
    """The floor is the Fréchet distance of N training points to the value's reference, and no sample touches it."""
    shifted = sets["rng"].normal(size=(70, 2, 3)) + 5
    row = evaluate(shifted, sets["train"], sets["test"], names=["frechet"], seed=4)[0]
    assert row["value"] == pytest.approx(frechet_distance(shifted, sets["test"]), rel=1e-12)
    assert row["value"] > 100 > 2 > row["floor"]
    other = evaluate(shifted * 100, sets["train"], sets["test"], names=["frechet"], seed=4)[0]
    assert other["floor"] == row["floor"]
    # With half of train on each side and test = train, the held-out half is at distance 0 from its own points.
    tiny = np.repeat(np.eye(4), 20, axis=0)
    assert evaluate(tiny, tiny, tiny, names=["w2"], limit=None)[0]["floor"] < 1


def test_copies_of_train_are_flagged_and_the_floor_is_not(sets):
    """The training set handed in as samples: memorisation 1 with p far below 1e-6; floor near 1/2.

    The floor's z exceeds 4 in size with probability 6e-5: then it would be outside 0.5 +- 0.18.
    """
    rows = by_name(evaluate(sets["train"][:100], sets["train"], sets["test"], names=["memorisation", "memorisation_p"]))
    assert rows["memorisation"]["value"] == 1.0
    assert rows["memorisation_p"]["value"] < 1e-6
    assert rows["memorisation"]["floor"] == pytest.approx(0.5, abs=0.18)
    assert rows["memorisation_p"]["floor"] > 3e-5


def test_memorisation_searches_all_of_train(sets):
    """A copy of any training point is found, whichever half it is in."""
    row = evaluate(sets["train"], sets["train"], sets["test"], names=["memorisation"])[0]
    assert row["n_samples"] == 200
    assert row["value"] == memorisation_test(sets["train"], sets["train"], sets["test"]).nearer == 1.0


@pytest.mark.parametrize(
    ("n", "limit", "expected"),
    [(100, 2000, (100, 150)), (1000, 2000, (200, 150)), (1000, 50, (50, 50)), (1000, None, (200, 150))],
)
def test_sizes_used_are_reported(sets, n, limit, expected):
    """N = min(n, L // 2, limit) and M = min(m, limit), in every row."""
    rows = evaluate(np.zeros((n, 6)) + np.arange(6), sets["train"], sets["test"], names=["frechet", "w2"], limit=limit)
    assert {(row["n_samples"], row["n_reference"]) for row in rows} == {expected}


def test_order_of_names_is_kept_and_seed_decides(sets):
    samples = sets["rng"].normal(size=(60, 6))
    names = ["c2st", "sliced_w2", "frechet_features"]
    labels = np.arange(400) % 3
    first, again, other = (
        evaluate(samples, sets["train"], sets["test"], labels=labels, names=names, seed=seed) for seed in (1, 1, 2)
    )
    assert [row["metric"] for row in first] == names
    assert first == again
    assert first != other


def test_one_space_for_every_set_of_samples(sets):
    """The feature space depends on train and seed, not on the samples or their number: floors at one N agree."""
    many, few = sets["rng"].normal(size=(120, 6)), sets["rng"].normal(size=(60, 6)) * 3
    name = ["frechet_features"]
    rows = [evaluate(s, sets["train"], sets["test"], names=name, limit=60)[0] for s in (many, few)]
    assert rows[0]["floor"] == rows[1]["floor"]


def test_shares_stand_under_their_own_names(sets):
    """Samples of one half of the data: nearly all within it, and half of it without a sample."""
    samples = sets["rng"].normal(size=(300, 2, 3))
    samples = samples[samples[:, 0, 0] > 0]
    rows = by_name(evaluate(samples, sets["train"], sets["test"], names=["precision", "recall", "density", "coverage"]))
    shares, balls = precision_recall(samples, sets["test"]), density_coverage(samples, sets["test"])
    by_hand = {"precision": shares.precision, "recall": shares.recall, "density": balls.density}
    assert {name: rows[name]["value"] for name in by_hand} == by_hand
    assert rows["coverage"]["value"] == balls.coverage
    assert len({round(row["value"], 3) for row in rows.values()}) == 4


def test_features_come_from_training_rows_that_neither_set_is_judged_by(sets, monkeypatch):
    """Half of train, with the labels of its own rows: nothing of the samples, of test, or of the floor's points."""
    learned, judged = [], []

    def learn(train, labels, *, seed):
        learned.append((train, labels))
        return learn_features(train, labels, max_epochs=2, seed=seed)

    def compared(*parts):
        judged.append(parts[0])
        return Comparison(*parts)

    monkeypatch.setattr(evaluation, "learn_features", learn)
    monkeypatch.setattr(evaluation, "Comparison", compared)
    labels, samples = np.arange(400) % 3, sets["rng"].normal(size=(200, 2, 3))
    evaluate(samples, sets["train"], sets["test"], labels=labels, names=["frechet_features"])
    ((taught, their_labels),) = learned
    rows = {row.tobytes(): i for i, row in enumerate(sets["train"])}
    taught_rows = [rows[row.tobytes()] for row in taught]
    of_samples, of_floor = judged
    assert {row.tobytes() for row in of_samples} == {row.tobytes() for row in samples}
    assert sorted([*taught_rows, *(rows[row.tobytes()] for row in of_floor)]) == list(range(400))
    assert list(their_labels) == [i % 3 for i in taught_rows]


def test_a_given_space_is_used(sets):
    space = learn_features(sets["train"], max_epochs=2, seed=9)
    samples = sets["rng"].normal(size=(60, 6))
    row = evaluate(samples, sets["train"], sets["test"], names=["frechet_features"], space=space)[0]
    assert row["value"] == pytest.approx(
        frechet_distance(space.transform(samples), space.transform(sets["test"])), rel=1e-9
    )


def test_bad_input(sets):
    samples, train, test = np.zeros((50, 6)), sets["train"], sets["test"]
    with pytest.raises(ValueError, match=r"no metric 'FID'; known are frechet, .*fid"):
        evaluate(samples, train, test, names=["FID"])
    with pytest.raises(ValueError, match="expected a list of metric names, got 'fid'"):
        evaluate(samples, train, test, names="fid")
    with pytest.raises(ValueError, match="samples: expected at least 20 rows"):
        evaluate(samples[:19], train, test)
    with pytest.raises(ValueError, match="train: expected at least 40 rows"):
        evaluate(samples, train[:39], test)
    with pytest.raises(ValueError, match="test and train: expected rows of one size, got 5 and 6"):
        evaluate(samples, train, np.zeros((50, 5)))
    with pytest.raises(ValueError, match="samples: expected finite numbers, got 300 NaN"):
        evaluate(samples * np.nan, train, test)
    with pytest.raises(ValueError, match="one for each of 400 training rows"):
        evaluate(samples, train, test, labels=np.zeros(10))
    with pytest.raises(ValueError, match="limit: expected None or at least 20"):
        evaluate(samples, train, test, limit=5)
