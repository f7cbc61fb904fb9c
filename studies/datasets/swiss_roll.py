"""A swiss roll in the plane, the first experiment of Sohl-Dickstein et al. (2015): continuous points, unit variance."""

from __future__ import annotations

import numpy as np

from studies.datasets.dataset import Dataset

TRAIN_EXAMPLES, TEST_EXAMPLES = 10_000, 2_000


def load() -> Dataset:
    """Fixed draws from scikit-learn's roll with noise 0.5, its height dropped, standardised by the training set."""
    from sklearn.datasets import make_swiss_roll

    points, _ = make_swiss_roll(TRAIN_EXAMPLES + TEST_EXAMPLES, noise=0.5, random_state=0)
    plane = points[:, [0, 2]]
    train, test = plane[:TRAIN_EXAMPLES], plane[TRAIN_EXAMPLES:]
    mean, std = train.mean(axis=0), np.sqrt(train.var(axis=0).mean())
    return Dataset("swiss_roll", (train - mean) / std, (test - mean) / std, None, "scikit-learn make_swiss_roll")
