"""How long work tells its caller what it does."""

from typing import Protocol


class Progress(Protocol):
    """Called with the number of newly finished items; fractional within one item."""

    def __call__(self, finished: float, /) -> None:
        """Take note of it."""


class Notify(Protocol):
    """Called with a sentence for the user."""

    def __call__(self, sentence: str, /) -> None:
        """Take note of it."""
