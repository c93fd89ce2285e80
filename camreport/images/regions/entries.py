"""What a file of regions holds, before it is known which photographs and classes it means."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from camreport.images.inputs import printable

MAX_NAMED = 3
"""Most faults that a sentence names."""

Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class Entry:
    """One region as its file has it.

    Attributes:
        where: its place in the file, for messages.
        image: what the file calls the photograph.
        label: what the file calls the class; None if it does not say.
        box: left, top, right, bottom; None if the file has only the shape.
        polygons: x and y of corners by turns.
        relative: whether box and polygons are fractions of the photograph instead of pixels.
        columns: lengths of stretches outside and inside by turns, column by column.
        mask: a picture whose values above 0 are the region.
        size: width and height of the photograph according to the file.
    """

    where: str
    image: str
    label: str | None = None
    box: Four | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    relative: bool = False
    columns: tuple[int, ...] = ()
    mask: Path | None = None
    size: tuple[int, int] | None = None


@dataclass
class Faults:
    """What of a file of regions was changed or left out, and why.

    Attributes:
        places: with what is there, by what was done and the rule that is broken.
    """

    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, rule: str, place: str) -> None:
        """Note a place where a rule is broken."""
        self.places.setdefault(rule, []).append(printable(place))

    def left_out(self, rule: str, place: str) -> None:
        """Note a place that is left out, and the rule that it breaks."""
        self.add(f"left out: expected {rule}", place)

    def first(self) -> str:
        """Return the first place with its rule; nothing if there is none."""
        for rule, places in self.places.items():
            return f" For instance {places[0]}: {rule.removeprefix('left out: ')}."
        return ""

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each rule, with its first places, without a full stop."""
        for rule, places in self.places.items():
            yield f"regions: {len(places):,} {rule}: {named(places)}"


def named(places: Sequence[str]) -> str:
    """Return the first places of a list, and how many there are besides."""
    more = len(places) - MAX_NAMED
    return "; ".join(places[:MAX_NAMED]) + (f"; and {more:,} more" if more > 0 else "")
