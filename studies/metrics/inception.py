"""FID: the Fréchet distance of Inception-v3 features (Heusel et al. 2017), for those who have the weights at hand.

The features are torch-fidelity's (the 2048 of the last pooling, resized as TensorFlow 1 did), so values
compare with published ones when the sets and their sizes do. Nothing is ever downloaded: without the package
or the weights the error says what to get and where to put it.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.metrics.frechet import frechet_distance
from studies.metrics.points import FloatArray

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_SOURCE = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS_FILE}"
SHA256_STARTS = "6726825d"  # the end of the file's name, by the convention of torch.hub
WEIGHTS_VARIABLE = "INCEPTION_WEIGHTS"
IMAGES_AT_ONCE = 64


def inception_frechet(
    samples: ArrayLike, reference: ArrayLike, *, weights: str | Path | None = None, device: str = "cpu"
) -> float:
    """FID of images (N, H, W, C) and (M, H, W, C) in [-1, 1], C = 1 or 3; dimensionless; lower is better.

    `weights`: the file, else the variable INCEPTION_WEIGHTS, else torch's hub folder. Bias: upwards;
    published values use 50,000 samples, and with fewer than 2,048 the covariances are rank deficient. Raises
    ImportError without torch-fidelity, FileNotFoundError without weights, ValueError for arrays that are not
    such images and for a file that is not the published one.
    """
    images, others = as_bytes("samples", samples), as_bytes("reference", reference)
    network = _network(weights, device)
    return frechet_distance(_features(network, images, device), _features(network, others, device))


def as_bytes(name: str, images: ArrayLike) -> NDArray[np.uint8]:
    """(N, H, W, C) in [-1, 1] to bytes (N, 3, H, W): the nearest of 256 levels, grey repeated into 3 channels."""
    values = np.asarray(images, dtype=np.float64)
    if values.ndim != 4 or values.shape[-1] not in (1, 3):
        raise ValueError(f"{name}: expected images (N, H, W, 1 or 3), got shape {values.shape}; FID is for images only")
    # Samples may overshoot by rounding; by more, it is not this range. NaN fails the test too.
    if not np.all(np.abs(values) <= 1 + 1e-6):
        raise ValueError(
            f"{name}: expected values in [-1, 1], got {values.min():.4g} to {values.max():.4g}; "
            "rescale or clip them first"
        )
    levels = np.rint((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(np.broadcast_to(levels, (*levels.shape[:-1], 3)), -1, 1))


def find_weights(weights: str | Path | None = None) -> Path:
    """The weights file: the argument, else INCEPTION_WEIGHTS, else in torch's hub folder; else FileNotFoundError."""
    path = Path(weights or os.environ.get(WEIGHTS_VARIABLE) or _hub_folder() / WEIGHTS_FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"FID needs Inception's weights at {path}: fetch {WEIGHTS_SOURCE} there, "
            f"or name the file in {WEIGHTS_VARIABLE}"
        )
    return path


def _hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _network(weights: str | Path | None, device: str) -> Any:
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ImportError(
            f"FID needs torch-fidelity ({error}); `pip install torch-fidelity`, or leave this metric out"
        ) from error
    network = FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=_tensors_alone(find_weights(weights))
    )
    return network.to(device)


def _tensors_alone(path: Path) -> io.BytesIO:
    """The published weights, read as tensors and nothing else, in a buffer that torch-fidelity can read.

    torch-fidelity would unpickle whatever the file holds, so it is never given the file itself.
    """
    import torch

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(SHA256_STARTS):
        raise ValueError(
            f"{path}: expected a SHA-256 that starts with {SHA256_STARTS}, got {digest[:8]}; "
            f"fetch {WEIGHTS_SOURCE} again"
        )
    buffer = io.BytesIO()
    torch.save(torch.load(path, map_location="cpu", weights_only=True), buffer)
    buffer.seek(0)
    return buffer


def _features(network: Any, images: NDArray[np.uint8], device: str) -> FloatArray:
    """(N, 2048) float64."""
    import torch

    with torch.inference_mode():
        batches = [
            network(torch.from_numpy(images[start : start + IMAGES_AT_ONCE]).to(device))[0].double().cpu().numpy()
            for start in range(0, len(images), IMAGES_AT_ONCE)
        ]
    return np.concatenate(batches)
