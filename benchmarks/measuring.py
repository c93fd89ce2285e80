"""What is measured on, how contenders are timed in turn, and the line that says so."""

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torchvision.models import AlexNet

TOLERANCE = 1e-5
"""Largest deviation from our raw map, as part of its peak, that is still the same map."""

LOOSE_TOLERANCE = 1e-3
"""The same where rounding is magnified: by differences of logits that are nearly the same, by
eigenvectors whose eigenvalues are."""

Times = dict[str, list[float]]
"""Milliseconds of every round, by contender."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is measured, and which way round the ratio is.
        ours: our side of it, in milliseconds unless it names a unit.
        other: the other side.
        value: what the bar is for; None if it was not measured.
        spread: the same of every round.
        bar: the limit; None if the row is there for information.
        sign: whether the bar is the least or the most.
        note: stands in place of a value that is missing.
    """

    what: str
    ours: str = "–"
    other: str = "–"
    value: float | None = None
    spread: Sequence[float] = ()
    bar: float | None = None
    sign: Literal["≥", "≤"] = "≤"
    note: str = "–"

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or a dash if there is nothing to judge."""
        if self.bar is None or self.value is None:
            return "–"
        met = self.value >= self.bar if self.sign == "≥" else self.value <= self.bar
        return "met" if met else "missed"

    def __str__(self) -> str:
        """Return the line in Markdown."""
        value = self.note if self.value is None else digits(self.value)
        if len(self.spread) > 1:
            value += f" ({digits(min(self.spread))}–{digits(max(self.spread))})"
        bar = "–" if self.bar is None else f"{self.sign} {self.bar:g}"
        return f"| {self.what} | {self.ours} | {self.other} | {value} | {bar} | {self.verdict} |"


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        device: ``cpu`` or ``cuda``.
        rounds: of the short measurements.
        long_rounds: of the long ones.
    """

    device: str
    rounds: int
    long_rounds: int


def measure(contenders: Mapping[str, Callable[[], object]], rounds: int, device: str) -> Times:
    """Time every contender once in each round; whoever calls has warmed them up.

    Their order is drawn anew for each round (seeded): who comes after whom matters, for caches
    and for the memory that the allocator holds.
    """
    times: Times = {name: [] for name in contenders}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(list(contenders), len(contenders)):
            synchronise(device)
            start = time.perf_counter()
            contenders[name]()
            synchronise(device)
            times[name].append((time.perf_counter() - start) * 1000)
    return times


def synchronise(device: str) -> None:
    """Wait until the device has finished what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def compare(
    what: str,
    ours: Sequence[float],
    other: Sequence[float],
    bar: float | None,
    sign: Literal["≥", "≤"] = "≤",
) -> Row:
    """Return the row of two contenders: ``≥`` divides the other's times by ours, ``≤`` ours."""
    dividend, divisor = (other, ours) if sign == "≥" else (ours, other)
    return Row(
        what,
        digits(statistics.median(ours)),
        digits(statistics.median(other)),
        statistics.median(dividend) / statistics.median(divisor),
        [a / b for a, b in zip(dividend, divisor, strict=True)],
        bar,
        sign,
    )


def digits(value: float) -> str:
    """Return a number in digits that mean something: 0.974, 1.04, 32.6, 4,322."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def verify(name: str, found: float, tolerance: float = TOLERANCE) -> float:
    """Return a deviation that is small enough.

    Raises:
        SystemExit: it is not: the times would belong to different maps.
    """
    if not found <= tolerance:
        sys.exit(f"{name}: maps deviate by {found:.1e} of their peak, more than {tolerance:.0e}")
    return found


def build_model(device: str, classes: int = 2) -> "AlexNet":
    """Build torchvision's AlexNet, 4,096 wide, with seeded random weights."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    return alexnet(num_classes=classes).eval().to(device)


def build_images(count: int, device: str) -> Tensor:
    """Draw a batch of seeded noise, ``(N, 3, 224, 224)``."""
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(1)).to(device)


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def python(*arguments: str | Path) -> str:
    """Run this Python as a process of its own; return what it printed."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
