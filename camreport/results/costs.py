"""Costs as the files of a results folder hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from camreport.messages.message import sentences
from camreport.results.decoding import Entry, UnfitError, whole

Count = Annotated[int, whole()]


def _kinds_of_passes(value: Mapping[str, object]) -> None:
    for name in value:
        if f"methods.passes.{name}" not in sentences():
            raise UnfitError("a kind of passes", name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost(Entry):
    """How much was computed.

    Attributes:
        forwards: number of forward passes over batches, or over chunks of variants.
        backwards: number of backward passes over batches.
        variants: number of changed images or layer outputs that went through forward passes.
        maps: number of raw and fused maps.
        seconds: wall-clock time.
    """

    forwards: Count
    backwards: Count
    variants: Count
    maps: Count
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TotalCost(Cost):
    """How much was computed, in total and by kind of passes."""

    families: Annotated[Mapping[str, Cost], _kinds_of_passes]
