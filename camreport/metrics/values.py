"""What a metric returns: numbers, and why some of them are undefined."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Undefined(IntEnum):
    """Why a number is not there; 0 where it is. The values are those of the results' files."""

    DEFINED = 0
    NOT_MEASURED = 1
    """The image is not in the sample on which passes are spent."""
    NOT_FINITE = 2
    """The map has values that are not finite."""
    CONSTANT = 3
    """One of the things compared has the same value everywhere."""
    NO_POSITIVE = 4
    """The map has no positive evidence."""
    NO_OTHER_CLASS = 5
    """No other class is explained."""
    NO_REGION = 6
    """No region is known of the image and class."""
    REGION_UNSEEN = 7
    """The region lies outside the part of the photograph that the model sees."""
    CLASS_CHANGED = 8
    """Every changed copy of the image has another most probable class."""
    FIXED_WEIGHTS = 9
    """The network has no weights that can be permuted."""
    FAILED = 10
    """The network's own code fails on the changed image or with permuted weights."""

    @property
    def word(self) -> str:
        """Its name in lower case, as in the manifest; empty where a number is there."""
        return self.name.lower() if self else ""


WORDS = np.array([reason.word for reason in Undefined])
"""The words of ``Undefined`` by their values."""


@dataclass(frozen=True)
class Values:
    """Numbers of some maps.

    Attributes:
        numbers: float32 of any shape, NaN exactly where a number is undefined.
        reasons: uint8 of the same shape, values of ``Undefined``.
    """

    numbers: NDArray[np.float32]
    reasons: NDArray[np.uint8]

    @classmethod
    def of(cls, numbers: ArrayLike, *undefined: tuple[Undefined, ArrayLike]) -> Self:
        """Return numbers, some of them undefined.

        Args:
            numbers: of any shape; whatever stands at undefined places.
            undefined: reasons, each with where it holds; the first that holds counts.
        """
        values = np.array(numbers, dtype=np.float32)
        reasons = np.zeros(values.shape, np.uint8)
        for reason, where in reversed(undefined):
            reasons[np.broadcast_to(np.asarray(where, dtype=bool), values.shape)] = reason
        values[reasons != Undefined.DEFINED] = np.nan
        if np.isnan(values[reasons == Undefined.DEFINED]).any():
            raise ValueError("numbers: expected a reason for each NaN.")
        return cls(values, reasons)

    def of_shape(self, shape: tuple[int, ...]) -> Self:
        """Return the numbers repeated along axes of length 1 until they have a shape."""
        return type(self)(
            np.broadcast_to(self.numbers, shape), np.broadcast_to(self.reasons, shape)
        )

    def unless(self, *undefined: tuple[Undefined, ArrayLike]) -> Self:
        """Return the numbers without those at further undefined places, whose reasons count."""
        earlier = ((reason, self.reasons == reason) for reason in Undefined if reason)
        return type(self).of(self.numbers, *undefined, *earlier)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the numbers of several parts one after the other, along the first axis."""
        return cls(
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.reasons for part in parts]),
        )
