"""What a computation took, in passes rather than in promises."""

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Cost:
    """What was computed.

    Attributes:
        forwards: forward passes over batches, or over chunks of variants.
        backwards: backward passes over batches.
        variants: changed images or layers among the forward passes.
        maps: raw and fused maps.
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
