"""Results are in order, computed ahead within bounds, and no thread outlives its use."""

import threading

import pytest

from flowers.common import ahead


def test_results_are_in_order_and_items_are_drawn_when_they_are_needed():
    drawn = []

    def endless():
        for number in range(10**9):
            drawn.append(number)
            yield number

    results = ahead.computed(lambda number: number**2, endless(), ahead=3)
    assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
    assert len(drawn) <= 4 + 3
    results.close()


def test_every_result_is_returned_however_few_there_are():
    for count in (0, 1, 5):
        assert list(ahead.computed(str, range(count), ahead=2, threads=1)) == [str(number) for number in range(count)]


def test_an_error_is_raised_in_its_place_and_ends_the_threads():
    before = threading.active_count()
    results = ahead.computed(lambda number: 1 // number, [1, 0, 1], ahead=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before
