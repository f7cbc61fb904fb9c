"""Values made ahead are those made in turn."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.cell.ahead import ahead


@given(st.lists(st.integers()))
def test_values_come_in_order(indices):
    assert list(ahead(lambda i: 2 * i, indices)) == [2 * i for i in indices]


def test_the_next_value_is_made_while_one_is_in_use():
    made = {i: threading.Event() for i in range(3)}
    values = ahead(lambda i: made[i].set(), range(3))
    next(values)
    assert made[1].wait(timeout=60)
    assert not made[2].is_set()
    values.close()


def test_an_error_comes_with_its_own_value():
    values = ahead(lambda i: 1 // i, [2, 1, 0])
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(values)
