"""Where units of work are computed."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from ihtjax import interrupts


class Executor(Protocol):
    """Computes items, in any order, some of them perhaps more than once; few are in flight at a time."""

    def run(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield (item, work(item)), for each item at least once."""
        ...


class Threads:
    """Threads of this process, which yield in order and run a few items ahead.

    Args:
      workers: how many.
    """

    def __init__(self, workers: int):
        self.workers = workers

    def run(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        waiting: collections.deque[tuple[Any, Future]] = collections.deque()
        pool = ThreadPoolExecutor(self.workers)
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > 2 * self.workers:
                    done, future = waiting.popleft()
                    yield done, interrupts.result(future)
            while waiting:
                done, future = waiting.popleft()
                yield done, interrupts.result(future)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
