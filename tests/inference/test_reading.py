"""Reading ahead: order, how far, errors, and that nothing is read once nobody wants it."""

import threading

import pytest

from samjax.inference.reading import read_ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_with_what_was_read(workers: int):
    assert list(read_ahead(range(7), lambda n: n * n, workers)) == [(n, n * n) for n in range(7)]


def test_the_next_item_is_read_while_one_is_used_and_no_more():
    read, enough = [], threading.Event()

    def reading(n: int) -> int:
        read.append(n)
        if n == 1:
            enough.set()
        return n

    items = read_ahead(range(5), reading, 1)
    assert next(items) == (0, 0)
    assert enough.wait(10)
    assert read == [0, 1]
    items.close()
    assert read == [0, 1]


def test_an_error_comes_with_its_item():
    def reading(n: int) -> int:
        if n == 1:
            raise ValueError("number 1")
        return n

    items = read_ahead(range(3), reading, 2)
    assert next(items) == (0, 0)
    with pytest.raises(ValueError, match="number 1"):
        next(items)
