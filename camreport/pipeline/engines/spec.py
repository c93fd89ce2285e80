"""What goes to a worker and what comes back: plain data, without torch."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar, overload

from camreport.images.inputs import InputFile
from camreport.images.regions.region import PhotoRegions

Record = dict[str, Any]
"""A JSON object."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Excerpt(Sequence[_T], Generic[_T]):
    """Some entries of a sequence, each at its place in the whole.

    Attributes:
        whole: length of the whole sequence.
        entries: by their places.
    """

    whole: int
    entries: Mapping[int, _T]

    def __len__(self) -> int:
        return self.whole

    @overload
    def __getitem__(self, place: int) -> _T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[_T]: ...
    def __getitem__(self, place: int | slice) -> _T | Sequence[_T]:
        if isinstance(place, slice):
            return [self.entries[one] for one in range(self.whole)[place]]
        return self.entries[place]


@dataclass(frozen=True)
class Item:
    """Some shards, to be computed one after the other, with what is known of their inputs.

    Attributes:
        numbers: of the shards, in increasing order.
        length: inputs in a shard of the run.
        files: the inputs.
        labels: classes that count as right for each input with a label, by the input's index.
        regions: of the inputs, by their indices; None if the run has none.
        groups: values of the columns of groups, by the input's index.
    """

    numbers: tuple[int, ...]
    length: int
    files: Sequence[InputFile]
    labels: Mapping[int, tuple[int, ...]]
    regions: Mapping[int, PhotoRegions] | None
    groups: Mapping[int, tuple[str | None, ...]] = field(default_factory=dict)

    @property
    def indices(self) -> list[int]:
        """The indices of the inputs that the shards cover."""
        whole = len(self.files)
        return [
            index
            for number in self.numbers
            for index in range(number * self.length, min((number + 1) * self.length, whole))
        ]

    def of(self, numbers: Sequence[int]) -> "Item":
        """Return an item of some of the shards, with only their inputs."""
        item = replace(self, numbers=tuple(numbers))
        own, whole = item.indices, len(self.files)
        return replace(
            item,
            files=Excerpt(whole, {index: self.files[index] for index in own}),
            labels={index: self.labels[index] for index in own if index in self.labels},
            groups={index: self.groups[index] for index in own if index in self.groups},
            regions=None
            if self.regions is None
            else {index: self.regions[index] for index in own if index in self.regions},
        )

    def __str__(self) -> str:
        """Return the numbers of the shards and the indices of their images, in words."""
        indices = self.indices
        first, last = self.numbers[0], self.numbers[-1]
        shards = f"shard {first}" if first == last else f"shards {first}–{last}"
        return f"{shards} (images {indices[0]}–{indices[-1]})"


@dataclass(frozen=True)
class Outcome:
    """What became of an item.

    Attributes:
        item: the item.
        images: number of its inputs.
        failed: number of inputs that could not be read.
        seconds: time it took.
        device: the device and the machine on which it was computed.
        beside: names of the files beside its shards.
        failures: the metrics that the model fails on, each with what it raised.
        error: why it was given up; empty if it is finished.
    """

    item: Item
    images: int
    failed: int = 0
    seconds: float = 0.0
    device: str = ""
    beside: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class RunSpec:
    """What a worker needs to know of a run; a few kilobytes of JSON.

    Attributes:
        settings: the options that decide maps and evidence, resolved for the model.
        marker: the marker of the run's results: its plan, and the digests and versions that every
            worker has to have too.
        total: number of inputs.
        out: the folder of the report and the results.
        folder: the folder in which the command was given; paths in the settings start there.
        device: type of the device to compute on.
    """

    settings: Record
    marker: Record
    total: int
    out: str
    folder: str
    device: str

    def to_json(self) -> str:
        """Return the spec as text."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """Return the spec that a text holds."""
        return cls(**json.loads(text))


Engine = Callable[[RunSpec, Iterable[Item]], Iterator[Outcome]]
"""Has items computed and written, and yields the outcome of each, in any order."""
