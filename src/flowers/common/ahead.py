"""Results computed in threads, ahead of their use."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def computed(function: Callable[[T], R], items: Iterable[T], ahead: int, threads: int | None = None) -> Generator[R]:
    """`function` of every item, in order; at most `ahead` results are computed before they are needed.

    Items are drawn only then, so there may be any number of them. Every core has a thread, up to `threads`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool, source = ThreadPoolExecutor(min(cores, threads or cores)), iter(items)
    try:
        waiting = deque(pool.submit(function, item) for item in islice(source, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
