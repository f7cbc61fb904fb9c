"""Handwritten digits, 8x8 pixels of 17 grey levels: 1,437 to train on and 360 to test.

They are scikit-learn's copy of the UCI set.
"""

from __future__ import annotations

import numpy as np

from studies.datasets.dataset import Dataset

LEVELS = 17
TEST_EXAMPLES = 360


def load() -> Dataset:
    """A fixed split, stratified by digit."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x = np.asarray(images).reshape(-1, 8, 8, 1) / 8 - 1
    train, test, train_labels, test_labels = train_test_split(
        x, labels, test_size=TEST_EXAMPLES, random_state=0, stratify=labels
    )
    return Dataset("digits", train, test, LEVELS, "scikit-learn load_digits", train_labels, test_labels)
