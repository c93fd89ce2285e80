"""The cost of a computation, counted in forward and backward passes."""

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Cost:
    """How much was computed.

    Attributes:
        forwards: number of forward passes over batches, or over chunks of variants.
        backwards: number of backward passes over batches.
        variants: number of changed images or layer outputs that went through forward passes.
        maps: number of raw and fused maps.
        seconds: wall-clock time; not part of a comparison.
    """

    forwards: int = 0
    backwards: int = 0
    variants: int = 0
    maps: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: "Cost") -> "Cost":
        """Add up two costs."""
        mine, its = asdict(self), asdict(other)
        return Cost(**{key: mine[key] + its[key] for key in mine})
