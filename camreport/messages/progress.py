"""How long work tells its caller what it does."""

from typing import Protocol


class Progress(Protocol):
    """Called with the number of newly finished items; fractional within one item."""

    def __call__(self, finished: float, /) -> None:
        """Take note of it."""


class Measuring(Protocol):
    """Called before maps are measured, with the number of passes over one image that it takes.

    It returns what is told of finished passes.
    """

    def __call__(self, passes: int, /) -> Progress:
        """Take note of it."""


class Notify(Protocol):
    """Called with a sentence for the user."""

    def __call__(self, sentence: str, /) -> None:
        """Take note of it."""


def silent(_number: float) -> None:
    """Ignore progress."""


def unseen(_passes: int) -> Progress:
    """Ignore that maps are measured, and how far that is."""
    return silent
