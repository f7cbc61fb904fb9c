"""The figure of the bound in bits a point beside what it is held against, from gain.csv in the run's folder."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes

from studies.reporting.numbers import plain
from studies.reporting.plotting import FAINT, INK, PAPER, Panel, Plot, linear_axis, rows_axis
from studies.reporting.view import View

FILE = "gain.csv"
KNOWN = {
    "isotropic Gaussian": "the Gaussian itself",
    "true density": "the true density, which no model passes on average",
    "the paper's, on its roll": "the paper's number, on a roll whose thickness it does not give, and on which alone it"
    " depends",
}
"""What a hollow mark is, by its name in the table."""


def gain(view: View) -> Plot | None:
    """The lower bound on the log likelihood and its gain over a Gaussian (Sohl-Dickstein et al. 2015, Table 1)."""
    path = view.run.folder / FILE
    if not path.is_file():
        return None
    table = pd.read_csv(path)
    spoken = "; ".join(
        f"{row['name']}{', ' + row['framework'] if isinstance(row['framework'], str) else ''}: "
        f"{row['bound_text']} bits, {row['gain_text']} over the Gaussian"
        for row in table.to_dict("records")
    )
    unit = table["bits_of"].iloc[0] if "bits_of" in table else "density"  # a run of before the column
    known = [text for name, text in KNOWN.items() if name in set(table["name"])]
    panel = Panel(
        f"Bits of {unit} a point (higher is better)",
        f"Lower bound on the log likelihood of a test point. {spoken}.",
        _draw(view, table),
        height=60 + 34 * len(table),
    )
    return Plot(
        "gain-over-gaussian",
        "The bound in bits, and its gain over a Gaussian",
        "K, the lower bound on the log likelihood of a test point, and in brackets K less the log likelihood under an"
        " isotropic Gaussian fitted to the training set (Sohl-Dickstein et al. 2015, Table 1). Bars are 95 % intervals"
        f" over seeds. Hollow marks are not models of this run: {'; '.join(known)}.",
        [panel],
        table,
        view.keys(lines=False),
    )


def _draw(view: View, table: pd.DataFrame) -> Callable[[Axes], None]:
    recipes = {str(recipe): recipe for recipe in view.recipes}

    def draw(ax: Axes) -> None:
        low, high = table["bound_bits"].min(), table["bound_bits"].max()
        for i, row in enumerate(table.to_dict("records")):
            model = isinstance(row["recipe"], str)
            label = f"{row['name']}, {row['framework']}" if model else row["name"]
            if model:
                colour = view.colour(recipes[row["recipe"]])
                ax.plot([row["low"], row["high"]], [-i, -i], color=colour, linewidth=2)
                marker = view.marker(row["backend"])
                ax.plot(row["bound_bits"], -i, marker, color=colour, markersize=7, markeredgecolor=PAPER)
            else:
                ax.plot(row["bound_bits"], -i, "o", color=INK, markersize=6, markerfacecolor="none")
            text = f"{label}: {row['bound_text']} ({plain(row['gain_bits'], 3)})"
            ax.text(0, -i + 0.3, text, transform=ax.get_yaxis_transform(), size=9.5, color=FAINT, va="bottom")
        margin = 0.06 * (high - low)
        ax.set_xlim(low - margin, high + margin)
        ax.set_ylim(-len(table) + 0.4, 0.95)
        rows_axis(ax)
        linear_axis(ax, "x")
        ax.set_xlabel("bits a point")

    return draw
