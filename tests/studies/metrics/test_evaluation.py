"""Rows, floors and the registry: value and floor are one metric at the same sizes, on samples and on data."""

from dataclasses import replace

import numpy as np
import pytest

from studies.metrics import METRICS, evaluate, evaluation, learn_features
from studies.metrics.comparison import Comparison
from studies.metrics.frechet import frechet_distance
from studies.metrics.mmd import MULTIPLES
from studies.metrics.neighbours import density_coverage, memorisation_test, precision_recall

CHEAP = ["frechet", "sliced_w2", "mmd2_1", "precision", "recall", "density", "coverage", "memorisation"]
COLUMNS = [
    *("metric", "value", "floor", "why_no_value", "why_no_floor"),
    *("unit", "direction", "ideal", "n_samples", "n_reference", "seed"),
]
FROM_DATA = [name for name in METRICS if name != "fid"]


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
        assert (row["why_no_value"], row["why_no_floor"]) == ("", "")
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
    with pytest.raises(ValueError, match="samples: expected at least 1 rows"):
        evaluate(samples[:0], train, test)
    with pytest.raises(ValueError, match="train: expected at least 2 rows"):
        evaluate(samples, train[:1], test)
    with pytest.raises(ValueError, match="test and train: expected rows of one size, got 5 and 6"):
        evaluate(samples, train, np.zeros((50, 5)))
    with pytest.raises(ValueError, match="samples: expected finite numbers, got 300 NaN"):
        evaluate(samples * np.nan, train, test)
    with pytest.raises(ValueError, match="one for each of 400 training rows"):
        evaluate(samples, train, test, labels=np.zeros(10))
    with pytest.raises(ValueError, match="limit: expected None or at least 20"):
        evaluate(samples, train, test, limit=5)


def blanks_in(rows):
    """The metrics without a value, and those without a floor; a reason is there where a number is not."""
    for row in rows:
        for number, reason in ((row["value"], row["why_no_value"]), (row["floor"], row["why_no_floor"])):
            assert np.isnan(number) == bool(reason)
            assert "\n" not in reason
    return [{row["metric"] for row in rows if row[reason]} for reason in ("why_no_value", "why_no_floor")]


@pytest.mark.parametrize("name", [name for name in FROM_DATA if METRICS[name].least > 1])
def test_a_metric_needs_the_points_it_says_and_no_more(sets, name):
    """With `least` samples and test examples it has a value, with one fewer of either it is a blank that says so."""
    least, train = METRICS[name].least, sets["train"]
    points = np.random.default_rng(5).normal(size=(2, least, 2, 3))
    (enough,) = evaluate(*(points[0], train, points[1]), names=[name])
    assert np.isfinite([enough["value"], enough["floor"]]).all()
    for samples, test in ((points[0][1:], points[1]), (points[0], points[1][1:])):
        (row,) = evaluate(samples, train, test, names=[name])
        assert np.isnan([row["value"], row["floor"]]).all()
        assert row["why_no_value"] == row["why_no_floor"] != ""
        assert f"at least {least} points on either side, got {len(samples)} and {len(test)}" in row["why_no_value"]


@pytest.mark.parametrize("name", [name for name in FROM_DATA if METRICS[name].least > 1 and name != "memorisation_p"])
def test_a_metric_has_no_value_for_fewer_points_than_it_says(name):
    """So that nothing is left blank that could be had; the p-value's normal ranks are a matter of how near they are."""
    few = np.random.default_rng(6).normal(size=(METRICS[name].least - 1, 2))
    many = np.random.default_rng(7).normal(size=(60, 2))
    with pytest.raises(ValueError, match="expected at least"):
        METRICS[name].function(Comparison(few, few, many, lambda: learn_features(many, max_epochs=2), 0))


def test_points_that_are_all_the_same_leave_blank_what_needs_a_scale():
    """Samples, train and test of one point: at distance 0, within every ball of radius 0, and no nearer to train."""
    same = np.full((80, 3), 0.3)
    rows = evaluate(same[:40], same, same[:30])
    nothing = {"frechet_features", *(f"mmd2_{multiple:g}" for multiple in MULTIPLES), "c2st", "c2st_p"}
    assert blanks_in(rows) == [nothing, nothing]
    known = {"frechet": 0.0, "sliced_w2": 0.0, "w2": 0.0, "precision": 1.0, "recall": 1.0, "coverage": 1.0,
             "density": 30 / 5, "memorisation": 0.5, "memorisation_p": 0.5}  # fmt: skip
    for row in rows:
        if row["metric"] in known:
            assert row["value"] == pytest.approx(known[row["metric"]], abs=1e-12)
            assert row["floor"] == pytest.approx(known[row["metric"]], abs=1e-12)


@pytest.mark.parametrize(
    ("make", "left_blank"),
    [
        # Mostly one point: the median distance is 0, so that no bandwidth follows; features have something to learn.
        (lambda rng, n: np.where(np.arange(n)[:, None] < n // 8, 1.0, 0.0) * np.ones(3), {"mmd2_1", "c2st"}),
        # A line in space, and a coordinate that never changes: no trouble to anything.
        (lambda rng, n: rng.normal(size=(n, 1)) * [1.0, -2.0, 0.0], set()),
        # Deviations whose squares vanish, and numbers whose squares are infinite.
        (lambda rng, n: 1e-200 * rng.normal(size=(n, 3)), {"frechet_features"}),
        (lambda rng, n: 1e200 * rng.normal(size=(n, 3)), {"frechet", "frechet_features", "sliced_w2"}),
    ],
    ids=["repeated", "flat", "tiny", "huge"],
)
def test_degenerate_points_never_raise(make, left_blank):
    rng = np.random.default_rng(8)
    names = [name for name in FROM_DATA if name != "w2"]
    rows = evaluate(make(rng, 48), make(rng, 120), make(rng, 40), names=names)
    values, floors = blanks_in(rows)
    assert left_blank <= values
    assert left_blank or values == floors == set()


@pytest.mark.parametrize("labels", [np.zeros(60, int), np.arange(60)])
def test_labels_that_teach_nothing_are_no_failure(sets, labels):
    """One class leaves the features blank with that reason; as many classes as points do not."""
    (row,) = evaluate(sets["train"][:30], sets["train"][:60], sets["test"], labels=labels, names=["frechet_features"])
    assert ("at least two classes" in row["why_no_value"]) == (len(set(labels)) == 1)


def test_what_is_missing_from_the_machine_is_no_blank(sets, monkeypatch):
    """A package that is not installed or a broken metric is an error, not a property of the points."""
    for error in (ImportError("no POT"), FileNotFoundError("no weights"), TypeError("a bug")):

        def broken(comparison, error=error):
            raise error

        monkeypatch.setitem(METRICS, "w2", replace(METRICS["w2"], function=broken))
        with pytest.raises(type(error)):
            evaluate(sets["train"][:40], sets["train"], sets["test"], names=["w2"])
