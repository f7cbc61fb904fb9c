"""Numbers made one step ahead, so that a device need not wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Index = TypeVar("Index")
T = TypeVar("T")


def ahead(make: Callable[[Index], T], indices: Iterable[Index]) -> Iterator[T]:
    """make(i) for every i in order, each made by a thread while the caller works with the one before.

    An error in `make` reaches the caller when the value that failed is asked for.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        upcoming = None
        for index in indices:
            ready, upcoming = upcoming, thread.submit(make, index)
            if ready is not None:
                yield ready.result()
        if upcoming is not None:
            yield upcoming.result()
