"""The parts in which evidence is measured and kept: one kind of it, for some images of a shard.

A part that is finished serves every later run that asks for it, whatever else that run asks for.
Images of the sample are measured in the groups in which they were drawn, so that the images of a
larger sample that a smaller one has too are measured in the same batches.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from camreport.pipeline.evidence.choice import Asked
from camreport.pipeline.evidence.kinds import Kind, kinds_of
from camreport.settings import FULL


@dataclass(frozen=True)
class Part:
    """One kind of evidence for some images of a shard.

    Attributes:
        name: its name in a sidecar: ``contrast``, or ``learned.0`` for the images drawn first.
        kind: the kind.
        indices: of the images among the run's inputs, in increasing order.
    """

    name: str
    kind: Kind
    indices: tuple[int, ...]

    def decided(self, asked: Asked, sha256: Mapping[int, str | None]) -> str:
        """Return a digest of everything that decides the part, beside the run.

        Args:
            asked: what is measured.
            sha256: digests of the images' files, by their indices.
        """
        known = (asked.regions or {}) if "regions" in self.kind.metrics else {}
        decisive = {
            "seed": asked.seed,
            "methods": sorted(asked.methods),
            "own passes": self.kind.repeats and (asked.level == FULL or asked.shared),
            "maps": asked.maps if self.kind.ranked else None,
            "images": [[i, sha256[i], repr(known.get(i))] for i in self.indices],
        }
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def parts_of(asked: Asked | None, indices: Iterable[int]) -> list[Part]:
    """Return the parts of the evidence for a shard.

    Args:
        asked: what is measured; None for nothing.
        indices: of the shard's images, without those that cannot be read as far as that is known.
    """
    if asked is None:
        return []
    own, found = {*indices}, list[Part]()
    groups = [tuple(sorted(own.intersection(group))) for group in asked.groups]
    for kind in kinds_of(asked.keys):
        name = kind.metrics[0]
        if kind.sampled:
            found += [Part(f"{name}.{n}", kind, group) for n, group in enumerate(groups) if group]
        else:
            found.append(Part(name, kind, tuple(sorted(own))))
    return found
