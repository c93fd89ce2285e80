"""What the summary of a run needs of each image: of a million of them it stays in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from camreport.results.costs import Count
from camreport.results.decoding import Entry, refusing
from camreport.results.schema import (
    ImageEntry,
    Manifest,
    Predicted,
    Prediction,
    ShardName,
    Side,
    check_images,
)


class Described(Predicted, Protocol):
    """A readable image: an ``ImageEntry`` or its ``Outline``."""

    @property
    def file(self) -> str:
        """Name of the file."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""

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
    groups: tuple[str | None, ...] | None
    top: tuple[Prediction, ...]
    shard: str | None
    row: int | None

    @property
    def file(self) -> str:
        """An empty name: names would take as much memory as all the rest."""
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read(Entry):
    """The fields of an ``ImageEntry`` that an outline is made of."""

    index: Count
    status: Literal["ok", "failed"]
    width: Side | None
    height: Side | None
    label: Count | None = None
    labels: tuple[Count, ...] | None = None
    groups: tuple[str | None, ...] | None = None
    shard: ShardName | None = None
    row: Count | None = None
    top: tuple[Prediction, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Shard(Entry):
    """The field of a ``Sidecar`` that outlines are made of."""

    images: tuple[_Read, ...]


def outlines(
    sidecars: Iterable[tuple[str, Mapping[str, Any]]], manifest: Manifest
) -> tuple[list[Outline], list[ImageEntry]]:
    """Return the outlines of the readable images, and the entries of the failed ones.

    Args:
        sidecars: names of the sidecars of a run and what their JSON holds, in order.
        manifest: of the run.

    Raises:
        ResultsError: a field is missing or does not fit; the message names the field.
    """
    found, failed = list[Outline](), list[ImageEntry]()
    shared: dict[object, Any] = {}
    names, length = {name: name for name in manifest.class_names}, manifest.totals.shard_length
    for number, (where, content) in enumerate(sidecars):
        records = content.get("images")
        for record in records if isinstance(records, list) else ():
            _reduce(record, names)
        first = number * length
        images = _Shard.from_json(content, where).images
        with refusing(where):
            check_images(images, first, min(length, manifest.totals.images - first), manifest)
        for row, image in enumerate(images):
            if image.status == "failed":
                failed.append(ImageEntry.from_json(records[row], where))  # type: ignore[index]
                continue
            size = image.width or 1, image.height or 1
            found.append(
                Outline(
                    index=image.index,
                    size=shared.setdefault(size, size),
                    label=shared.setdefault(image.label, image.label),
                    labels=image.labels,
                    groups=shared.setdefault(image.groups, image.groups),
                    top=image.top,
                    shard=shared.setdefault(image.shard, image.shard),
                    row=shared.setdefault(image.row, image.row),
                )
            )
    return found, failed


def _reduce(record: object, names: Mapping[str, str]) -> None:
    """Leave of a record's predictions the first one, its name the same object in all records."""
    top = record.get("top") if isinstance(record, dict) else None
    if isinstance(record, dict) and isinstance(top, list):
        record["top"] = top[:1]
        for one in record["top"]:
            if isinstance(one, dict) and type(one.get("name")) is str:
                one["name"] = names.get(one["name"], one["name"])
