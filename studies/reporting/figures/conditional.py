"""The figure of conditional samples of points: denoised, and completed from one coordinate, beside exact draws.

From conditional.npz in the run's folder (`studies.sohl_dickstein.results`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.reporting.plotting import FAINT, PALETTE, Panel, Plot, bare, label_of
from studies.reporting.view import View

FILE = "conditional.npz"
SHOWN = {
    "observed": "Points with noise",
    "denoised": "Denoised by the model",
    "denoised_exactly": "Exact draws",
    "completed": "Completed by the model",
    "completed_exactly": "Exact draws, completed",
}


def conditional(view: View) -> Plot | None:
    """What reverse steps, each multiplied with a second distribution, make of noisy and of incomplete points."""
    path = view.run.folder / FILE
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    off = {
        name: float(np.sqrt(np.mean(np.sum((arrays[name] - arrays["truth"]) ** 2, axis=1))))
        for name in ("observed", "denoised", "denoised_exactly")
    }
    distances = ", ".join(f"{SHOWN[name].lower()} {label_of(value)}" for name, value in off.items())
    panels = [
        Panel(
            title,
            f"{title}: {len(arrays[name])} points over the data." + (f" {_WORDS[name]}" if name in _WORDS else ""),
            _draw(arrays["truth"], arrays[name]),
            height=330,
        )
        for name, title in SHOWN.items()
    ]
    data = pd.concat(
        [pd.DataFrame(arrays[name], columns=["x", "y"]).assign(points=name) for name in ("truth", *SHOWN)],
        ignore_index=True,
    )
    return Plot(
        "conditional-samples",
        "Denoised and completed",
        "Each reverse step multiplied with a second distribution (Sohl-Dickstein et al. 2015, sec. 2.5): with that of"
        " the point that was observed under noise of known variance, and with a given first coordinate. Grey: the data."
        " Exact draws are training points, drawn by how likely they make what was observed. Root mean square distance"
        f" to the point behind the noise: {distances}. Completing is approximate (core/conditioning.py): what the given"
        " coordinate says of the other reaches it through the network alone, too little: some points miss the curve.",
        panels,
        data,
    )


_WORDS = {
    "completed": "Vertical lines at the given first coordinates; exact draws would lie where the curve crosses them.",
}


def _draw(truth: NDArray[np.float64], points: NDArray[np.float64]) -> Callable[[Axes], None]:
    def draw(ax: Axes) -> None:
        ax.plot(*truth.T, ".", color=FAINT, markersize=2, alpha=0.5)
        ax.plot(*points.T, ".", color=PALETTE[0], markersize=3.5, alpha=0.7)
        ax.set_xlim(-2.6, 2.6)
        ax.set_ylim(-2.6, 2.6)
        ax.set_aspect("equal")
        bare(ax)

    return draw
