"""How a report writes numbers, and the words around them: intervals, seconds, counts, lists."""

# ruff: noqa: RUF001
from __future__ import annotations

import math
import re
from collections.abc import Sequence

from studies.statistics.intervals import Interval


def plain(value: float, digits: int = 4) -> str:
    """A number to so many significant digits; with an exponent only where it is very small or very large."""
    if not math.isfinite(value):
        return "not finite" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}".replace("-", "−")
    return f"{value:.{digits - 1}e}".replace("-", "−")


def plus_minus(interval: Interval, signed: bool = False) -> str:
    """ "0.031 ± 0.010"; "0.031" alone where one seed gives no interval. `signed` puts a plus before a positive one."""
    text = plain(interval.estimate, 3) if math.isinf(interval.half_width) else str(interval).replace("-", "−")
    text = text.replace(" ± ", "\u00a0±\u00a0")  # never broken over two lines
    text = re.sub(r"e([+−]\d+)$", lambda matched: f"\u00a0×\u00a010{_superscript(matched[1])}", text)
    return f"+{text}" if signed and interval.estimate > 0 and not text.startswith("(") else text


def _superscript(exponent: str) -> str:
    """ "−06" is "⁻⁶"."""
    return str(int(exponent.replace("−", "-"))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def size_of(interval: Interval) -> str:
    """|estimate| ± half width: how large an effect is, for a sentence that says in words which way it goes."""
    sign = -1 if interval.estimate < 0 else 1
    low, high = sorted((sign * interval.low, sign * interval.high))
    return plus_minus(Interval(abs(interval.estimate), low, high, interval.confidence, interval.n))


def unbroken(text: str) -> str:
    """The text with numbers kept on one line with their sign or unit, "95 %", and "t = 1" whole."""
    text = re.sub(r"(?<=\d) (?=%|MB\b|ms\b|s\b|min\b)", "\u00a0", text)
    return re.sub(r"\b([A-Za-z]) = (?=[\dT])", "\\1\u00a0=\u00a0", text)


def seconds(value: float) -> str:
    """ "8.2 s", "118 s", "21 min", "3.4 h"."""
    if value < 600:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def some(words: Sequence[str], most: int = 4, between: str = ", ") -> str:
    """As `listed`; of more than `most` the first of them and how many there are besides: "a, b, c and 12 more"."""
    words = list(words)
    if len(words) <= most:
        return listed(words) if between == ", " else between.join(words)
    return f"{between.join(words[: most - 1])} and {len(words) - most + 1} more"


def in_sentence(title: str) -> str:
    """A metric's title within a sentence: "sliced Wasserstein distance", but "Fréchet distance (data space)"."""
    first = title.split()[0]
    is_name = first in ("Fréchet", "Wasserstein") or first[:2].isupper()
    title = f"{title.replace(', ', ' (', 1)})" if ", " in title else title
    return title if is_name else title[0].lower() + title[1:]
