"""Tables and sentences as plain text, as wide as a terminal: no word and no number is broken over two lines.

A table too wide for its width is folded: first its headings, then its names, and then its columns are parted into
blocks that stand below each other, each of which begins with the columns that say what a row is of.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

GAP = 2

Cells = Sequence[Sequence[str]]


def terminal_width() -> int | None:
    """The columns of the terminal; None where the output goes to a file or a pipe, in which nothing is folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wrapped(sentence: str, width: int | None) -> list[str]:
    """The sentence in lines of at most so many characters; a longer word has a line of its own."""
    if width is None:
        return [sentence]
    return textwrap.wrap(sentence, width, break_long_words=False, break_on_hyphens=False) or [""]


def folded(text: str, width: int | None) -> str:
    """Every line of the text in lines of at most so many characters, which go on two characters farther in."""
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        first, *rest = wrapped(line.strip(), None if width is None else width - len(indent) - 2)
        lines += [indent + first, *(f"{indent}  {more}" for more in rest)]
    return "\n".join(lines)


def aligned(table: Cells, width: int | None = None, heads: int = 1, keys: int = 2) -> list[str]:
    """Rows of text in columns: the first `keys` to the left, the others to the right.

    The first `heads` rows are headings, which may be folded between words; names in the first column may be, too.
    """
    length = max(len(row) for row in table)
    filled = [[*row, *[""] * (length - len(row))] for row in table]
    full = [max(len(row[i]) for row in filled) for i in range(length)]
    if width is None or _total(full) <= width:
        return _written(filled, full, keys)
    words = [max(_longest_word(row[i]) for row in filled) for i in range(length)]
    least = [max(words[i], *(len(row[i]) for row in filled[heads:])) for i in range(length)]
    room = width - _total([*least[1:keys], max(least[keys:], default=0)]) - GAP  # beside a name and one more column
    least[0] = max(words[0], min(full[0], room, width // 3))
    lines: list[str] = []
    for block in _blocks(least, width, keys):
        columns = [*range(keys), *block]
        # What is left of the width goes to the names.
        widths = [least[i] for i in columns]
        widths[0] = min(full[0], widths[0] + max(0, width - _total(widths)))
        rows = [[row[i] for i in columns] for row in filled]
        lines += ([""] if lines else []) + _written(rows, widths, keys)
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _longest_word(text: str) -> int:
    return max((len(word) for word in text.split(" ")), default=0)


def _blocks(widths: Sequence[int], width: int, keys: int) -> list[list[int]]:
    """The columns after the keys, parted so that each part fits beside the keys; at least one a part."""
    blocks: list[list[int]] = [[]]
    for i in range(keys, len(widths)):
        beside = _total([*widths[:keys], *(widths[j] for j in blocks[-1]), widths[i]])
        if blocks[-1] and beside > width:
            blocks.append([])
        blocks[-1].append(i)
    return blocks


def _written(rows: Cells, widths: Sequence[int], keys: int) -> list[str]:
    lines = []
    for row in rows:
        cells = [wrapped(cell, max(1, size)) for cell, size in zip(row, widths, strict=True)]
        for n in range(max(len(cell) for cell in cells)):
            words = [cell[n] if n < len(cell) else "" for cell in cells]
            sides = ["<"] * keys + [">"] * (len(words) - keys)
            placed = [f"{word:{side}{size}}" for word, side, size in zip(words, sides, widths, strict=True)]
            lines.append((" " * GAP).join(placed).rstrip())
    return lines
