"""What a results folder holds: every entry of its JSON files, and the name of every array."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal, NamedTuple, Self

from camreport.errors import ResultsError
from camreport.images.pixels import MAX_PIXELS
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message
from camreport.messages.message import sentences
from camreport.methods import METHODS
from camreport.results.decoding import Entry, UnfitError, filled, refusing, whole

SCHEMA = 3
"""Version of the folder's layout."""

MAX_INLINE = 10_000
"""Most images that the manifest lists itself; of more, only the sidecars do."""

FUSED, INPUT = "fused", "input"
"""Layers of maps that belong to the whole network: fused over the layers, or on its input."""

LOGITS, TARGETS, IMAGE = "logits", "targets", "image"
PHOTO, PHOTO_OFFSETS = "photo", "photo_offsets"
FEATURE_MAPS, CHANNEL_WEIGHTS = "feature_maps", "channel_weights"
"""Names of a shard's arrays; the last three stand in front of a layer, as methods do."""

MAX_SIDE = 1_000_000
"""Most pixels of a side of an image."""

_SHARD_NAME = re.compile(r"shard-[0-9]{6,9}\.npz")
_CONTRAST = re.compile(r"contrast:([0-9]{1,9})")


def _shard_name(value: str) -> None:
    if not _SHARD_NAME.fullmatch(value):
        raise UnfitError("a name such as shard-000000.npz", value)


def _file_name(value: str) -> None:
    if not PurePosixPath(value).name:
        raise UnfitError("the name of a file", value)


def _method_key(value: str) -> None:
    if value not in METHODS:
        raise UnfitError(f"one of {', '.join(METHODS)}", value)


def _kinds_of_passes(value: Mapping[str, object]) -> None:
    for name in value:
        if f"methods.passes.{name}" not in sentences():
            raise UnfitError("a kind of passes", name)


Count = Annotated[int, whole()]
Side = Annotated[int, whole(1, MAX_SIDE)]
ShardName = Annotated[str, _shard_name]
"""Leads nowhere else."""

FileName = Annotated[str, _file_name]
MethodKey = Annotated[str, _method_key]
Activation = Literal["softmax", "sigmoid", "none"]
Shape = tuple[
    Annotated[int, whole(1, 2**31)],
    Annotated[int, whole(1, 2**31)],
    Annotated[int, whole(1, 2**31)],
]
"""Channels, height and width of a tensor ``(C, h, w)``."""


class MapKey(NamedTuple):
    """Name of an array of maps in a shard: ``"grad_cam/features.12"``.

    Attributes:
        method: key of the method, or ``FEATURE_MAPS`` and the like.
        layer: address of the layer, ``FUSED`` or ``INPUT``.
    """

    method: str
    layer: str

    def __str__(self) -> str:
        """Return the array's name."""
        return f"{self.method}/{self.layer}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the key of an array's name; None of an array that belongs to no layer."""
        method, slash, layer = name.partition("/")
        return cls(method, layer) if slash else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry(Entry):
    """The model, as far as it can be cited.

    Attributes:
        name: as on the command line.
        source: where the weights come from.
        sha256: of the weights, hexadecimal.
        parameters: their number.
        output: which part of what the module returns holds the logits; None where that is plain.
        warning: what every reader must know, if anything.
        notes: what else a reader should know.
    """

    name: str
    source: Message
    sha256: str
    parameters: Count
    output: str | None = None
    warning: Message | None = None
    notes: tuple[Message, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassEntry(Entry):
    """A class of the model."""

    index: Count
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerEntry(Entry):
    """A layer of which there are maps or feature maps.

    Attributes:
        address: as the user wrote it, in canonical form.
        type: of its module.
        tensor: which tensor is used: the layer's own output, or the one after an activation.
        shape: of that tensor for one image, ``(C, h, w)``.
        same_as: an earlier layer that reads the same tensor, if there is one.
    """

    address: str
    type: str
    tensor: Message
    shape: Shape
    same_as: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fusion(Entry):
    """How maps were fused.

    Attributes:
        gamma: strength of the lift of early layers.
        stages: how many stages were lifted; None where the rule decided.
    """

    gamma: float
    stages: Count | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip(Entry):
    """A method without maps, and why.

    Attributes:
        method: its key.
        layer: where it has none; None is everywhere.
        reason: why.
    """

    method: MethodKey
    layer: str | None
    reason: Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction(Entry):
    """A class with its probability, 0..1."""

    index: Count
    name: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEntry(Entry):
    """An input of the run.

    Attributes:
        index: its number among the inputs.
        file: its name, relative to the INPUT it came from, with forward slashes; unique.
        sha256: of the file, hexadecimal; None where it could not be read.
        width: of the oriented image, in pixels; None where it could not be read.
        height: likewise.
        status: whether it was explained.
        reason: why it could not be read.
        transient: whether another attempt may succeed although the file stays as it is.
        note: what a reader should know of its pixels.
        label: index of its true class, if that is known.
        labels: indices of all classes that count as right, where they are several.
        shard: file name of the shard with its arrays.
        row: its index in those arrays.
        top: its most probable classes, most probable first.
    """

    index: Count
    file: FileName
    sha256: str | None
    width: Side | None
    height: Side | None
    status: Literal["ok", "failed"]
    reason: Message | None = None
    transient: bool = False
    note: Message | None = None
    label: Count | None = None
    labels: tuple[Count, ...] | None = None
    shard: ShardName | None = None
    row: Count | None = None
    top: tuple[Prediction, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether it was explained."""
        return self.status == "ok"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a readable image, in pixels."""
        assert self.width is not None
        assert self.height is not None
        return self.width, self.height

    def check(self) -> None:
        """Refuse an image without what its status promises."""
        needed = ("sha256", "width", "height", "shard", "row") if self.readable else ("reason",)
        for name in needed:
            if getattr(self, name) is None:
                raise UnfitError(f"a value in an image that is {self.status}", None, f".{name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost(Entry):
    """What was computed.

    Attributes:
        forwards: forward passes over batches, or over chunks of variants.
        backwards: backward passes over batches.
        variants: changed images or layers among the forward passes.
        maps: raw and fused maps.
        seconds: wall-clock time.
    """

    forwards: Count
    backwards: Count
    variants: Count
    maps: Count
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TotalCost(Cost):
    """What was computed, and by which kind of passes."""

    families: Annotated[Mapping[str, Cost], _kinds_of_passes]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts(Entry):
    """What tells without reading a file that it is the same: its size and times of change."""

    bytes: Count
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar(Entry):
    """The JSON file of a shard, written after the arrays: where it is, they are complete.

    Attributes:
        run: fingerprint of the run that it belongs to.
        methods: those whose maps the shard holds, each with what decides its maps alone.
        images: the inputs that the shard covers, in order.
        facts: of the file of each input; None of one that could not be looked at.
        cost: what the shard took.
        device: where it was computed.
        bytes: of the shard's file of arrays; 0 where no input could be read and there is none.
        findings: what its passes have shown that a reader should know.
    """

    run: str
    methods: tuple[str, ...] = ()
    images: Annotated[tuple[ImageEntry, ...], filled]
    facts: tuple[FileFacts | None, ...]
    cost: TotalCost
    device: str
    bytes: Count
    findings: tuple[Message, ...] = ()

    def check(self) -> None:
        """Refuse images out of order, and facts of other files."""
        _check_numbered(self.images, self.images[0].index)
        if len(self.facts) != len(self.images):
            raise UnfitError(f"{len(self.images)} entries", self.facts, ".facts")


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals(Entry):
    """How much there is.

    Attributes:
        images: inputs, failed ones included.
        failed: inputs that could not be read.
        shard_length: inputs that one shard covers; the last may cover fewer.
    """

    images: Annotated[int, whole(1)]
    failed: Count
    shard_length: Annotated[int, whole(1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest(Entry):
    """``manifest.json``: what was computed, from what, by what.

    Nothing that differs between two equal runs stands outside ``command``, ``versions``,
    ``device`` and ``cost``.

    Attributes:
        schema: version of the folder's layout.
        command: by which a user could ask for the same.
        versions: of camreport and of the libraries, by name.
        device: where it was computed.
        seed: of the noise; None where nothing was drawn.
        model: what was explained.
        preprocessing: from a photograph to the model's input.
        classes: of the model, by index.
        layers: those with maps, in the order of the request.
        channels: those with feature maps.
        methods: keys of the methods, in the order of the request.
        quantity: score that was explained: ``logit``, ``probability``, ``contrast`` or
            ``contrast:INDEX``.
        activation: how logits become probabilities.
        fusion: how maps were fused.
        smooth: ways of smoothing.
        skipped: methods without maps, everywhere or at a layer.
        totals: how much there is.
        images: all inputs, up to ``MAX_INLINE``; empty where there are more.
        cost: what the run took.
    """

    schema: int
    command: str
    versions: Mapping[str, str]
    device: str
    seed: int | None
    model: ModelEntry
    preprocessing: Preprocessing
    classes: Annotated[tuple[ClassEntry, ...], filled]
    layers: Annotated[tuple[LayerEntry, ...], filled]
    channels: tuple[LayerEntry, ...]
    methods: Annotated[tuple[MethodKey, ...], filled]
    quantity: str
    activation: Activation
    fusion: Fusion
    smooth: tuple[Literal["noise", "aug", "eigen"], ...]
    skipped: tuple[Skip, ...]
    totals: Totals
    images: tuple[ImageEntry, ...]
    cost: TotalCost

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names by their index."""
        return tuple(entry.name for entry in self.classes)

    @property
    def shown_methods(self) -> tuple[str, ...]:
        """Keys of the methods that have a map at one layer or more."""
        nowhere = {skip.method for skip in self.skipped if skip.layer is None}
        at_layer = {(skip.method, skip.layer) for skip in self.skipped}
        return tuple(
            key
            for key in self.methods
            if key not in nowhere and any((key, own.address) not in at_layer for own in self.layers)
        )

    def check(self) -> None:
        """Refuse what does not fit together."""
        _check_preprocessing(self.preprocessing)
        _check_numbered(self.classes, 0, ".classes")
        _check_layers(self.layers, ".layers")
        _check_layers(self.channels, ".channels")
        _check_quantity(self.quantity, len(self.classes))
        for skip in self.skipped:
            if skip.method not in self.methods:
                raise UnfitError("a method of the run", skip.method, ".skipped")
        if not self.shown_methods:
            raise UnfitError("at least one with a map", [*self.methods], ".methods")
        if len(self.images) not in (0, self.totals.images):
            raise UnfitError(f"{self.totals.images} entries or none", len(self.images), ".images")
        if self.totals.failed >= self.totals.images:
            raise UnfitError(
                "at least one that could be read", self.totals.failed, ".totals.failed"
            )
        if self.images and sum(not image.readable for image in self.images) != self.totals.failed:
            raise UnfitError("the number of failed images", self.totals.failed, ".totals.failed")
        _check_numbered(self.images, 0, ".images")
        for index, image in enumerate(self.images):
            _check_classes(image, len(self.classes), f".images[{index}]")


def sidecar_of(content: object, manifest: Manifest, shard: int, where: str) -> Sidecar:
    """Return a shard's sidecar, once it is known to fit the manifest.

    Args:
        content: as ``json.loads`` gives it.
        manifest: of the run.
        shard: its number.
        where: the file that it comes from, for the message.

    Raises:
        ResultsError: something is missing or does not fit; the message names it.
    """
    sidecar = Sidecar.from_json(content, where)
    length = manifest.totals.shard_length
    count = min(length, manifest.totals.images - shard * length)
    with refusing(where):
        if len(sidecar.images) != count:
            raise UnfitError(f"{count} entries", len(sidecar.images), ".images")
        _check_numbered(sidecar.images, shard * length)
        for index, image in enumerate(sidecar.images):
            _check_classes(image, len(manifest.classes), f".images[{index}]")
    return sidecar


def check_schema(content: Mapping[str, object], where: str) -> None:
    """Refuse a manifest of another schema, with the way on in the message.

    Raises:
        ResultsError: it is of an older or newer camreport, or damaged.
    """
    schema = content.get("schema")
    if schema == SCHEMA:
        return
    if type(schema) is not int:
        with refusing(where):
            raise UnfitError(str(SCHEMA), schema, ".schema")
    origin, advice = "a newer camreport", "Update camreport to read them."
    if schema < SCHEMA:
        origin, advice = "an older camreport", "Run 'camreport run' again with this version."
    raise ResultsError(f"results: expected schema {SCHEMA}, got {schema}, of {origin}. {advice}")


def _check_classes(image: ImageEntry, classes: int, place: str) -> None:
    """Refuse an image with the index of a class that does not exist, by ``UnfitError``."""
    named = (image.label, *(image.labels or ()), *(entry.index for entry in image.top))
    for index in named:
        if index is not None and index >= classes:
            raise UnfitError(f"class indices up to {classes - 1}", index, place)


def _check_preprocessing(preprocessing: Preprocessing) -> None:
    sides = (*preprocessing.size, preprocessing.short_side or 1)
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise UnfitError(f"sides from 1 to {MAX_SIDE}", sides, ".preprocessing")
    if math.prod(preprocessing.size) > MAX_PIXELS:
        raise UnfitError(f"up to {MAX_PIXELS:,} pixels", preprocessing.size, ".preprocessing.size")


def _check_numbered(
    entries: Sequence[ClassEntry | ImageEntry], first: int, place: str = ".images"
) -> None:
    for index, entry in enumerate(entries):
        if entry.index != first + index:
            raise UnfitError(str(first + index), entry.index, place, f"[{index}]", ".index")


def _check_layers(layers: Sequence[LayerEntry], place: str) -> None:
    """Check that each layer has an address of its own, and repeats none but an earlier one."""
    own: set[str] = set()
    seen: set[str] = set()
    for index, layer in enumerate(layers):
        at = (place, f"[{index}]")
        if layer.address in seen:
            raise UnfitError("each address once", layer.address, *at, ".address")
        if layer.same_as is not None and layer.same_as not in own:
            raise UnfitError("an earlier layer", layer.same_as, *at, ".same_as")
        seen.add(layer.address)
        own |= set() if layer.same_as is not None else {layer.address}


def _check_quantity(quantity: str, classes: int) -> None:
    rival = _CONTRAST.fullmatch(quantity)
    if rival and int(rival[1]) >= classes:
        raise UnfitError("contrast and a class index", quantity, ".quantity")
    if not rival and quantity not in ("logit", "probability", "contrast"):
        raise UnfitError("logit, probability or contrast", quantity, ".quantity")
