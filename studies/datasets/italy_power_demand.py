"""Italy's electricity demand by hour of the day: series of length 24 (UCR archive, shipped inside sktime)."""

from __future__ import annotations

import numpy as np

from studies.datasets.dataset import Dataset


def load() -> Dataset:
    """The archive's 1,029 test series to train on and its 67 training series to test: a model needs the larger part."""
    try:
        from sktime.datasets import load_italy_power_demand
    except ImportError:
        raise ImportError("italy_power_demand needs sktime, not installed here: pip install sktime") from None
    large, _ = load_italy_power_demand(split="test", return_type="numpy3D")
    small, _ = load_italy_power_demand(split="train", return_type="numpy3D")
    train, test = (np.moveaxis(np.asarray(part), 1, 2) for part in (large, small))
    return Dataset("italy_power_demand", train, test, None, "UCR archive, sktime load_italy_power_demand")
