"""A limit that threads share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLimit:
    """The largest amount of something that several threads may hold together.

    A thread that wants more than the limit waits until no other thread holds anything.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until ``amount`` is free, and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + amount <= self.limit)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()
