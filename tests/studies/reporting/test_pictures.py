"""Pictures of data of every shape: drawn, of bounded size, and with the right numbers behind them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from studies.reporting.figures import MAKERS
from studies.reporting.figures.tables_of_numbers import _PARTS, Drawn, _panel
from studies.reporting.pictures import examples, nearest_neighbours, real_and_made, trajectories
from studies.reporting.plotting import INK, Plot, images, pixels, save
from studies.reporting.points import bins_of, leading_columns, plane_of, shares
from studies.reporting.strips import ACROSS, MOST_LINE, MOST_SIDE, TALLEST, across, drawn, note
from studies.reporting.view import views_of
from studies.store.reading import read_run
from tests.studies.synthetic_run import make_run

OF_SAMPLES = {"first-samples", "samples", "denoising", "neighbours"}
OF_POINTS = {"marginals", "pairs", "moments"}


def figures_of(tmp_path, shape) -> dict[str, Plot]:
    """The figures of samples, by name, of a made-up run on data of that shape."""
    options = {"backends": ["torch"], "seeds": 1, "objectives": ["epsilon_mse"], "samplers": ["ancestral-100"]}
    (view,) = views_of(read_run(make_run(tmp_path / "run", dataset="mine", shape=shape, **options)))
    chosen = [
        make for make in MAKERS if make.__name__ in OF_SAMPLES | {"marginals", "in_pairs", "first_moments", "glance"}
    ]
    return {plot.name: plot for plot in (make(view) for make in chosen) if plot is not None}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1,), {"first-samples", "samples", "denoising", "moments"}),
        ((2,), {"first-samples", "samples", "denoising", "moments"}),
        ((3,), OF_SAMPLES | OF_POINTS),
        ((17,), OF_SAMPLES | OF_POINTS),
        ((200,), OF_SAMPLES | OF_POINTS),
        ((1, 1), {"first-samples", "samples", "denoising"}),
        ((5, 3), OF_SAMPLES),
        ((5000, 1), OF_SAMPLES),
        ((1, 1, 1), {"first-samples", "samples", "denoising"}),
        ((1, 40, 1), OF_SAMPLES),
        ((6, 4, 2), OF_SAMPLES),
        ((4, 4, 13), OF_SAMPLES),
    ],
)
def test_data_of_any_shape_have_their_figures(tmp_path, shape, expected):
    plots = figures_of(tmp_path, shape)
    assert set(plots) == expected
    for plot in plots.values():
        assert len(plot.data) > 0
        drawn_panels = images(plot)
        assert len(drawn_panels) == len(plot.panels) > 0
        for image in drawn_panels:
            assert "nan" not in image.alt


@pytest.mark.parametrize("shape", [(512, 2, 1), (2, 512, 1), (256, 256, 3), (600, 1, 5), (4, 3000, 2)])
def test_pictures_of_large_and_long_images_are_of_bounded_size(tmp_path, shape):
    """In pixels of the PNG, two a CSS pixel: three panels side by side, none higher than TALLEST; and in bytes."""
    real = np.random.default_rng(0).uniform(-1, 1, size=(10, *shape)).astype(np.float32)
    strips = [("epsilon MSE", INK, real), ("posterior KL", INK, real)]
    steps = np.array([60, 50, 40, 30, 20, 10, 5, 1])
    chains = [(name, INK, np.stack([real[:3]] * 8), steps) for name, _, _ in strips]
    for panels in (real_and_made("made", real, strips), trajectories(real, chains)):
        plot = Plot("large", "Large", "", panels, pd.DataFrame())
        save(plot, tmp_path)
        height, width, _ = imread(tmp_path / "large.png").shape
        assert width == 2 * 340 * min(3, len(panels))
        assert 100 < height <= 2 * (TALLEST + 60)
        assert (tmp_path / "large.svg").stat().st_size < 2e6
    assert examples(real).shape[1] <= 1 + MOST_SIDE**2 * 4


def test_many_strips_go_on_in_further_panels(tmp_path):
    """All are drawn, the real ones at the head of every panel, and no panel is higher than it may be."""
    real = np.zeros((10, 28, 28, 1))
    strips = [(f"cell {i}", INK, real) for i in range(60)]
    panels = real_and_made("ddim, 10 steps", real, strips)
    assert len(panels) > 1
    assert all(panel.height <= TALLEST for panel in panels)
    assert panels[0].title == f"Ddim, 10 steps, 1 of {len(panels)}"
    named = [re.findall(r"cell \d+", panel.alt) for panel in panels]
    assert [name for names in named for name in names] == [f"cell {i}" for i in range(60)]
    assert all("in rows: real test data, cell" in panel.alt for panel in panels)


def test_large_images_are_averaged_over_areas():
    """Where sides are a multiple: the mean of each block; and everywhere the mean of the picture is kept."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 2 * MOST_SIDE, 3 * MOST_SIDE, 3))
    blocks = image.reshape(2, MOST_SIDE, 2, MOST_SIDE, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(drawn(image), blocks, atol=1e-14)
    odd = rng.normal(size=(1, MOST_SIDE + 29, 7, 1))
    assert drawn(odd).shape == (1, MOST_SIDE, 7, 1)
    np.testing.assert_allclose(drawn(odd).mean(axis=1), odd.mean(axis=1), atol=1e-14)
    lost = np.where(np.arange(2 * MOST_SIDE) == 0, np.nan, 1.0)[None, :, None, None] * np.ones((1, 1, 4, 1))
    assert np.sum(drawn(lost) == 1.0) == 4 * (MOST_SIDE - 1)  # a NaN is one dark pixel, not a dark column
    small = rng.normal(size=(2, 8, 8, 2))
    np.testing.assert_array_equal(drawn(small), small)


def test_long_series_keep_their_extremes():
    series = np.random.default_rng(0).normal(size=(3, 4999, 2))
    series[1, 1234, 0], series[2, 4321, 1] = 90.0, -80.0
    few = drawn(series)
    assert few.shape == (3, MOST_LINE, 2)
    np.testing.assert_array_equal(few.max(axis=1), series.max(axis=1))
    np.testing.assert_array_equal(few.min(axis=1), series.min(axis=1))
    place = int(np.argmax(few[1, :, 0]))
    assert place / MOST_LINE == pytest.approx(1234 / 4999, abs=2 / MOST_LINE)


def test_channels_that_are_no_colours_stand_side_by_side():
    """The first is dark and the second light, and both are seen; of 13 the first four."""
    image = np.concatenate([np.full((10, 8, 8, 1), -1.0), np.full((10, 8, 8, 1), 1.0)], axis=3)
    (panel,) = real_and_made("made", None, [("one", INK, image)])
    picture = pixels(panel)
    middle = picture[round(picture.shape[0] * 0.75)].mean(axis=1)  # across the row of pictures
    assert np.sum(middle < 5) > 200
    assert np.sum(middle > 250) > 200
    assert "The 2 channels stand side by side in grey." in note((8, 8, 2))
    assert "The first 4 of 13 channels" in note((8, 8, 13))
    assert note((8, 8, 1)) == note((8, 8, 3)) == note((96,)) == ""
    assert across((8, 8, 1)) == ACROSS
    assert across((2, 512, 1)) == ACROSS // 2


def test_values_beyond_minus_one_and_one_are_drawn_where_real_data_have_them():
    real = np.linspace(0, 255, 10 * 16).reshape(10, 4, 4, 1)
    picture = pixels(real_and_made("made", real, [("one", INK, real)])[0])
    assert np.mean(picture < 128) > 0.1  # the darker half of what is drawn, and not white alone
    assert "Black is −1.00 and white 255" in note((4, 4, 1), (-1.0, 255.0))  # noqa: RUF001


def test_samples_that_are_not_finite_leave_a_picture(tmp_path):
    for shape in [(3,), (1,), (2,), (12, 1), (6, 6, 1)]:
        made_up = np.full((5, *shape), np.nan)
        made_up[0], made_up[1] = np.inf, 0.5
        for real in (None, np.random.default_rng(0).normal(size=(30, *shape))):
            for panel in real_and_made("made", real, [("one", INK, made_up)]):
                assert pixels(panel).std() > 1


def test_the_plane_of_points_is_that_of_their_principal_components():
    """Against the eigenvectors of numpy's correlation matrix; a constant column has no part in it."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5)) * [1, 100, 1, 1e-3, 1] + 4
    real[:, 2] = 7.0
    plane = plane_of(real)
    varies = [0, 1, 3, 4]
    values, vectors = np.linalg.eigh(np.corrcoef(real[:, varies].T))
    standard = (real[:, varies] - real[:, varies].mean(axis=0)) / real[:, varies].std(axis=0)
    np.testing.assert_allclose(np.abs(plane(real)), np.abs(standard @ vectors[:, [-1, -2]]), atol=1e-11)
    assert plane.share == pytest.approx(values[-2:].sum() / 4, rel=1e-12)
    np.testing.assert_array_equal(plane_of(real[:, :2])(real[:, :2]), real[:, :2])
    assert plane_of(np.ones((9, 3))).share is None


def test_samples_outside_of_the_frame_are_counted():
    """The frame of two columns is 1.3 times as wide as the real data, on one centre."""
    real = np.array([[-1.0, -1.0], [1.0, 1.0]])
    made_up = np.array([[0.0, 0.0], [1.29, 1.29], [1.31, 0.0], [0.0, -9.0], [np.nan, 0.0]])
    figure = Figure()
    (panel,) = real_and_made("made", real, [("one", INK, made_up)])
    panel.draw(axes := figure.subplots())
    assert [text.get_text() for text in axes.texts] == ["3 of 5 samples outside"]
    (panel,) = real_and_made("made", real, [("one", INK, made_up[:2])])
    panel.draw(axes := figure.subplots())
    assert not axes.texts


def test_columns_are_taken_by_variance_where_they_are_many():
    real = np.random.default_rng(0).normal(size=(50, 20)) * np.roll(np.arange(1, 21), 5)
    assert leading_columns(real, 3).tolist() == np.argsort(-real.var(axis=0))[:3].tolist()
    assert leading_columns(real[:, :3], 3).tolist() == [0, 1, 2]


def test_a_histogram_counts_all_samples_once():
    """Against counts by hand: what is beyond the bins is in the outermost, and a value of few has a bin to itself."""
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    assert shares(np.array([-9.0, 0.5, 1.5, 1.7, 99.0]), edges).tolist() == [0.4, 0.4, 0.2]
    assert shares(np.array([np.nan, 0.5]), edges).tolist() == [0.5, 0.0, 0.0]
    levels = np.repeat([-1.0, 0.0, 0.5], [5, 3, 2])
    assert bins_of(levels, 100).tolist() == [-1.5, -0.5, 0.25, 0.75]
    assert shares(levels, bins_of(levels, 100)).tolist() == [0.5, 0.3, 0.2]
    assert np.all(np.diff(bins_of(np.full(9, 1e8), 9)) > 0)
    heavy = np.append(np.random.default_rng(0).normal(size=9999), 1e9)
    assert np.ptp(bins_of(heavy, 500)) < 12


def test_marginals_and_moments_are_those_of_the_samples(tmp_path):
    """The tables behind the figures against numpy on the arrays in the run's folder, and the words on the page."""
    plots = figures_of(tmp_path, (17,))
    with np.load(tmp_path / "run" / "reference.npz") as stored:
        test = stored["test"]
    (path,) = (tmp_path / "run" / "cells").glob("*/samples.npz")
    with np.load(path) as stored:
        samples = stored["ancestral-100"]
    bins = plots["marginals"].data
    column = int(np.argmax(test.var(axis=0)))
    assert bins["column"].iloc[0] == column
    inner = bins[(bins["column"] == column) & (bins["cell"] == "epsilon MSE")].iloc[1:-1]
    for row in inner.itertuples():
        inside = (samples[:, column] >= row.bin_from) & (samples[:, column] < row.bin_to)
        assert row.share == pytest.approx(inside.mean())
    assert "The 12 of 17 columns" in plots["marginals"].caption
    table = plots["moments"].data
    of_samples = table[table["cell"] == "epsilon MSE"]
    assert of_samples["mean"].to_numpy() == pytest.approx(samples.mean(axis=0))
    assert of_samples["deviation_factor"].to_numpy() == pytest.approx(samples.std(axis=0) / test.std(axis=0))
    off = np.abs(np.corrcoef(samples.T) - np.corrcoef(test.T))
    assert of_samples["largest_correlation_error"].to_numpy() == pytest.approx(off.max(axis=1))
    written = plots["moments"].table
    assert written is not None
    assert [row[0] for row in written.rows] == ["training data (256)", "epsilon MSE"]
    assert float(written.rows[1][4][0].strip("\N{MINUS SIGN}")) == pytest.approx(off.max(), rel=1e-2)
    pairs = off[np.triu_indices(17, 1)]
    assert float(written.rows[1][5][0]) == pytest.approx(np.sqrt(np.mean(pairs**2)), rel=1e-2)


def test_a_ratio_is_drawn_from_0_and_a_difference_about_0():
    """Deviations 17 times too wide: the axis of the ratio ends a little left of 0, and both hold their values."""
    values = np.array([0.5, 3.0, 17.0])
    for part in _PARTS[:2]:
        panel = _panel(part, [(Drawn("a", "torch", "one", INK, values[:, None]), values)])
        assert panel is not None
        ax = Figure().subplots()
        panel.draw(ax)
        low, high = ax.get_xlim()
        assert low == pytest.approx(-0.03 * (high - 1) / 1.03 if part.ratio else -high)
        assert high > 17


def test_the_nearest_example_is_that_of_a_plain_search(monkeypatch):
    """Also where the data are taken a few rows at a time."""
    monkeypatch.setattr("studies.reporting.pictures.NEIGHBOURS_AT_ONCE", 20)
    rng = np.random.default_rng(0)
    train, samples = rng.normal(size=(31, 5)), rng.normal(size=(13, 5))
    panels, data, medians = nearest_neighbours([("one", INK, samples)], train, None)
    distance = np.sqrt(((samples[:, None] - train) ** 2).mean(axis=2))
    assert data["nearest_train"].tolist() == distance.argmin(axis=1).tolist()
    assert data["distance"].to_numpy() == pytest.approx(distance.min(axis=1))
    assert medians == {"one": pytest.approx(np.median(distance.min(axis=1)))}
    assert len(panels) == 1


def test_the_table_of_points_holds_what_is_drawn():
    points = np.random.default_rng(0).normal(size=(500, 6))
    plane = plane_of(points)
    table = examples(points, plane=plane)
    assert list(table.columns) == ["position", "component_1", "component_2"]
    assert table.filter(like="component").to_numpy() == pytest.approx(plane(points[:400]))
    assert list(examples(points[:, :2]).columns) == ["position", "x_0", "x_1"]
    assert isinstance(examples(points), pd.DataFrame)
