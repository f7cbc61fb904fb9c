"""Many comparisons at once: the confidence at which each is made so that all intervals hold together."""


def joint_confidence(comparisons: int, error: float = 0.05) -> float:
    """1 - error / comparisons, the confidence of each of so many intervals that all hold at once with 1 - error.

    Bonferroni's bound: it holds however the comparisons depend on each other. ValueError for fewer than one comparison
    or an error outside (0, 1).
    """
    if comparisons < 1:
        raise ValueError(f"comparisons: expected at least one, got {comparisons}")
    if not 0 < error < 1:
        raise ValueError(f"error lies between 0 and 1, got {error}; write 5 % as 0.05")
    return 1 - error / comparisons
