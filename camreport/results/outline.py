"""What the summary of a run needs of each image: of a million of them it stays in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from camreport.results.schema import ImageEntry, Prediction


class Described(Protocol):
    """A readable image: an ``ImageEntry`` or its ``Outline``."""

    @property
    def index(self) -> int:
        """Index among the inputs."""

    @property
    def file(self) -> str:
        """Name of the file."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""

    @property
    def label(self) -> int | None:
        """Index of the true class, if it is known."""

    @property
    def labels(self) -> tuple[int, ...] | None:
        """Indices of all classes that count as right, if there are several."""

    @property
    def top(self) -> tuple[Prediction, ...]:
        """The most probable class first; of an outline it is the only one."""

    @property
    def shard(self) -> str | None:
        """File name of the shard with its arrays."""

    @property
    def row(self) -> int | None:
        """Its row in them."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The part of a readable image's entry that is kept of very many; it has no file name."""

    index: int
    size: tuple[int, int]
    label: int | None
    labels: tuple[int, ...] | None
    first: Prediction | None
    shard: str | None
    row: int | None

    @property
    def file(self) -> str:
        """An empty name: names would take as much memory as all the rest."""
        return ""

    @property
    def top(self) -> tuple[Prediction, ...]:
        """The most probable class."""
        return () if self.first is None else (self.first,)


def outlines(
    images: Iterable[ImageEntry], class_names: Sequence[str]
) -> tuple[list[Outline], list[ImageEntry]]:
    """Return the outlines of the readable images, and the entries of the failed ones.

    Args:
        images: of a run, in order.
        class_names: by index; equal texts become one.
    """
    found, failed = list[Outline](), list[ImageEntry]()
    shared: dict[object, object] = {}
    for image in images:
        if not image.readable:
            failed.append(image)
            continue
        size, shard = image.size, image.shard
        first = None
        if image.top:
            top = image.top[0]
            name = class_names[top.index]
            first = Prediction(index=top.index, name=name, probability=top.probability)
        found.append(
            Outline(
                image.index,
                shared.setdefault(size, size),  # type: ignore[arg-type]
                image.label,
                image.labels,
                first,
                shared.setdefault(shard, shard),  # type: ignore[arg-type]
                image.row,
            )
        )
    return found, failed
