"""FID without Inception: what is said when something is missing, and everything but the network's own arithmetic."""

import hashlib
import sys
import types

import numpy as np
import pytest

from studies.metrics import inception
from studies.metrics.frechet import frechet_distance
from studies.metrics.inception import as_bytes, find_weights, inception_frechet

images = np.random.default_rng(0).uniform(-1, 1, size=(8, 4, 4, 1))


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ImportError, match="pip install torch-fidelity"):
        inception_frechet(images, images)


def test_missing_weights_say_where_they_go(monkeypatch, tmp_path):
    """One line with the place and the source; the package's own downloader is never reached."""

    def extractor(*_, **__):
        raise AssertionError("built without weights")

    stub = types.SimpleNamespace(FeatureExtractorInceptionV3=extractor)
    monkeypatch.setitem(sys.modules, "torch_fidelity", stub)
    monkeypatch.setenv("INCEPTION_WEIGHTS", str(tmp_path / "absent.pth"))
    with pytest.raises(FileNotFoundError, match=r"absent\.pth: fetch https://.*6726825d\.pth there, or name") as error:
        inception_frechet(images, images)
    assert "\n" not in str(error.value)


def test_weights_are_sought_in_order(monkeypatch, tmp_path):
    """The argument, then INCEPTION_WEIGHTS, then the hub folder."""
    named, variable, hub = tmp_path / "named.pth", tmp_path / "variable.pth", tmp_path / inception.WEIGHTS_FILE
    for path in (named, variable, hub):
        path.write_bytes(b"")
    monkeypatch.setattr(inception, "_hub_folder", lambda: tmp_path)
    monkeypatch.setenv("INCEPTION_WEIGHTS", str(variable))
    assert find_weights(named) == named
    assert find_weights() == variable
    monkeypatch.delenv("INCEPTION_WEIGHTS")
    assert find_weights() == hub


def test_another_file_is_refused_before_it_is_read(monkeypatch, tmp_path):
    """A file with another hash is never unpickled."""
    path = tmp_path / "other.pth"
    path.write_bytes(b"not weights")
    found = hashlib.sha256(b"not weights").hexdigest()[:8]
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace())
    with pytest.raises(ValueError, match=f"starts with 6726825d, got {found}"):
        inception._tensors_alone(path)


def test_images_become_bytes():
    """-1, 0 and 1 are 0, 128 (127.5 rounds to even) and 255; channels come first, grey is repeated."""
    grey = np.array([-1.0, 0.0, 1.0, 1 + 1e-7]).reshape(1, 2, 2, 1)
    levels = as_bytes("samples", grey)
    assert levels.shape == (1, 3, 2, 2)
    assert levels.dtype == np.uint8
    assert levels[0, 0].ravel().tolist() == [0, 128, 255, 255]
    assert np.array_equal(levels[:, 0], levels[:, 2])
    colour = np.random.default_rng(1).integers(0, 256, size=(2, 3, 4, 3))
    assert np.array_equal(as_bytes("samples", colour / 127.5 - 1), np.moveaxis(colour, -1, 1))


def test_fid_is_the_frechet_distance_of_features(monkeypatch):
    monkeypatch.setattr(inception, "_network", lambda weights, device: None)
    monkeypatch.setattr(
        inception, "_features", lambda network, batch, device: batch.reshape(len(batch), -1)[:, :5] / 255
    )
    expected = frechet_distance(*(as_bytes("x", z).reshape(4, -1)[:, :5] / 255 for z in (images[:4], images[4:])))
    assert inception_frechet(images[:4], images[4:]) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 8, 8)), "FID is for images only"),
        (np.zeros((4, 8, 8, 2)), "FID is for images only"),
        (np.full((4, 8, 8, 1), 255.0), "rescale or clip them first"),
        (np.full((4, 8, 8, 1), np.nan), "rescale or clip them first"),
    ],
)
def test_bad_input(values, message):
    with pytest.raises(ValueError, match=message):
        inception_frechet(values, values)
