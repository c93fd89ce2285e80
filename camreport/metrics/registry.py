"""The one table of metrics: command line, evidence passes, results, report and documents read it.

A metric is a function in this package under ``@metric``, texts in ``messages/metrics.toml`` and
an oracle in ``tests/helpers/metric_oracles.py``. It sees arrays, never a model: what needs passes
is measured in ``pipeline/evidence`` and handed to it. Nothing here imports torch.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from camreport.errors import MetricError, suggestion
from camreport.messages import Message, message
from camreport.metrics.values import Values
from camreport.settings import split_list

Compute = Callable[..., Values | Mapping[str, Values]]
F = TypeVar("F", bound=Compute)

Needs = Literal["maps", "masked", "orders", "collages", "scrambled", "copies", "regions"]
"""What a metric is measured on: the stored maps alone, forwards of masked images, forwards in the
map's own order, collages of images, a network with scrambled weights, copies of the image, or
regions that the user gave."""

Level = Literal["basic", "full", "name"]
"""The lowest level of evidence that measures it; ``name``: only where its name is given."""

Coverage = Literal["all", "sample", "collages"]
"""The images of a run that are measured."""


@dataclass(frozen=True)
class Number:
    """One number that a metric gives for a map.

    Attributes:
        key: its name in results, tables and links; begins with the metric's key.
        low: the least value it can have.
        high: the greatest value it can have; infinite where there is none.
        better: which end speaks for a map; None where neither does.
        chance: its expected value for a map that knows nothing; None where there is none.
        limit: the value above which a map fails; None for a number that is no such gate.
    """

    key: str
    low: float
    high: float
    better: Literal["high", "low"] | None = None
    chance: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Metric:
    """One question to a map, as command line, report and documents present it.

    Attributes:
        key: the function's name; the name on the command line and in results.
        compute: the pure function: arrays in, values out, one for each number in ``numbers``.
        needs: what it is measured on, which decides what it costs.
        level: the lowest level of evidence that asks it.
        numbers: what it gives for each map; the first one answers the question.
        beside: what else stands in its results: numbers of images, curves, and counts.
        aliases: further spellings of its name.
    """

    key: str
    compute: Compute
    needs: Needs
    level: Level
    numbers: tuple[Number, ...]
    beside: tuple[Number, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def coverage(self) -> Coverage:
        """The images of a run that it is measured of: what needs passes spares some."""
        if self.needs in ("maps", "regions"):
            return "all"
        return "collages" if self.needs == "collages" else "sample"

    @property
    def name(self) -> Message:
        """What it is called, in a word or two."""
        return message(f"metrics.{self.key}.name")

    @property
    def question(self) -> Message:
        """What a reader asks a map with it."""
        return message(f"metrics.{self.key}.question")

    @property
    def formula(self) -> Message:
        """How its first number comes about, in one line of plain text."""
        return message(f"metrics.{self.key}.formula")

    @property
    def range(self) -> Message:
        """What its first number reaches from and to, and what the ends mean."""
        return message(f"metrics.{self.key}.range")

    @property
    def cost(self) -> Message:
        """The passes it takes, per image unless it says otherwise."""
        return message(f"metrics.{self.key}.cost")

    @property
    def caution(self) -> Message:
        """What it cannot say, in one sentence."""
        return message(f"metrics.{self.key}.caution")

    @property
    def source(self) -> str:
        """Authors, year and address of the paper."""
        return str(message(f"metrics.{self.key}.source"))


METRICS: dict[str, Metric] = {}
"""Every metric by its key, in the order in which tables show them."""

LEVELS: tuple[Level, ...] = ("basic", "full", "name")
"""The levels of evidence; each holds those before it."""


def metric(
    needs: Needs,
    level: Level,
    *numbers: Number,
    beside: tuple[Number, ...] = (),
    aliases: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Return a decorator that registers a function as a metric.

    Args:
        needs: as for ``Metric``.
        level: as for ``Metric``.
        numbers: as for ``Metric``.
        beside: as for ``Metric``.
        aliases: as for ``Metric``.
    """

    def register(compute: F) -> F:
        key = compute.__name__
        METRICS[key] = Metric(key, compute, needs, level, numbers, beside, aliases)
        return compute

    return register


def number_of(key: str) -> Number | None:
    """Return what stands under a key in results, with its range; None if no metric gives it."""
    every = (number for one in METRICS.values() for number in (*one.numbers, *one.beside))
    return next((number for number in every if number.key == key), None)


def resolve_metrics(names: str | Iterable[str]) -> list[Metric]:
    """Find metrics by level or by names in any spelling, without repeats, in the table's order.

    Case, spaces, dashes and underscores do not matter.

    Args:
        names: ``basic``, ``full``, ``all`` (those by name only too), names separated by commas, or
            a sequence of these.

    Raises:
        MetricError: a name is unknown, or there is none.
    """
    if not isinstance(names, Iterable):
        raise MetricError(
            f"metrics: expected a level or a list of names, got {names!r}. For instance "
            "metrics=['contrast', 'extent']."
        )
    listed = split_list(names) if isinstance(names, str) else [str(name) for name in names]
    spelled = _by_spelling()
    found: set[str] = set()
    for name in filter(str.strip, listed):
        if _spelling(name) not in spelled:
            known = (*LEVELS[:2], "all", *METRICS)
            near = suggestion(name.strip().lower(), known) or f" There are {', '.join(known)}."
            raise MetricError(
                "metrics: expected a level or names that 'camreport metrics' lists, got "
                f"{name.strip()!r}.{near}"
            )
        found |= spelled[_spelling(name)]
    if not found:
        raise MetricError(f"metrics: expected at least one of {', '.join(METRICS)}, got none.")
    return [one for key, one in METRICS.items() if key in found]


def _by_spelling() -> dict[str, set[str]]:
    """Return the keys of the metrics that each spelling means."""
    ranks = {key: LEVELS.index(one.level) for key, one in METRICS.items()}
    words = {"basic": 0, "full": 1, "all": 2}
    found = {word: {key for key in ranks if ranks[key] <= rank} for word, rank in words.items()}
    for one in METRICS.values():
        for name in (*one.aliases, str(one.name), one.key):
            found[_spelling(name)] = {one.key}
    return found


def _spelling(name: str) -> str:
    return re.sub(r"[\s_()-]", "", name.strip().lower())
