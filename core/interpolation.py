"""Between two latents x_T along a great circle, which keeps the length that noise has (Song et al. 2021, eq. 67).

https://arxiv.org/abs/2010.02502, appendix D.5. Half way between two independent draws of D standard normal numbers, a
straight line has length sqrt(D / 2), where no draw of noise lies; the circle has sqrt(D).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

OPPOSITE = 1e-6  # rad: directions as near to opposite as this have no one circle through them


def spherical_interpolation(first: ArrayLike, second: ArrayLike, share: float) -> NDArray[np.float64]:
    """sin((1 - share) theta) / sin(theta) first + sin(share theta) / sin(theta) second, for each of (n, ...).

    `theta` is the angle between an example's two latents, taken as vectors; `share` 0 gives the first, 1 the second.
    Of one direction both, it is the straight line between them. ValueError for a latent of zeros, and for two that
    point opposite ways.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape or x.ndim < 2:
        raise ValueError(f"two latents have one shape (n, ...), got {x.shape} and {y.shape}")
    flat_x, flat_y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    lengths = [np.linalg.norm(flat, axis=1, keepdims=True) for flat in (flat_x, flat_y)]
    if any(np.any(length == 0) for length in lengths):
        raise ValueError("a latent of zeros has no direction; encode other examples")
    along, across = flat_x / lengths[0], flat_y / lengths[1]
    # Not by the arc cosine, which cannot tell small angles apart.
    theta = 2 * np.arctan2(np.linalg.norm(along - across, axis=1), np.linalg.norm(along + across, axis=1))
    if np.any(theta > np.pi - OPPOSITE):
        raise ValueError("latents that point opposite ways have no one circle between them; encode other examples")
    of_first, of_second = (
        (part * np.sinc(part * theta / np.pi) / np.sinc(theta / np.pi)) for part in (1 - share, share)
    )
    wide = (len(x), *(1,) * (x.ndim - 1))
    mixed: NDArray[np.float64] = of_first.reshape(wide) * x + of_second.reshape(wide) * y
    return mixed
