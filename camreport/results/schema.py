"""The schema of a results folder: the entries of its JSON files and the names of its arrays."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal, NamedTuple, Protocol, Self

from camreport.errors import ResultsError
from camreport.images.inputs import Facts
from camreport.images.pixels import MAX_PIXELS
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message
from camreport.methods import METHODS
from camreport.results.costs import Count, TotalCost
from camreport.results.decoding import Entry, UnfitError, filled, refusing, whole
from camreport.results.evidence import EvidenceEntry, RunCost

SCHEMA = 3
"""Version of the folder's layout."""

MAX_INLINE = 10_000
"""Largest number of images that the manifest lists itself; above it, only the sidecars do."""

FUSED, INPUT = "fused", "input"
"""Layer names of maps that belong to the whole network: fused over layers, or on the input."""

LOGITS, TARGETS, IMAGE = "logits", "targets", "image"
PHOTO, PHOTO_OFFSETS = "photo", "photo_offsets"
FEATURE_MAPS, CHANNEL_WEIGHTS = "feature_maps", "channel_weights"
CHANNEL_CONTRIBUTIONS = "channel_contributions"
"""Names of a shard's arrays; those of channels have a layer's address added."""

MAX_MODULES = 1000
"""Largest number of runs of modules that a model's structure lists."""

MAX_PRINTED = 50_000
"""Largest number of characters of a model's printed text."""

MAX_SIDE = 1_000_000
"""Largest number of pixels on a side of an image."""

_SHARD_NAME = re.compile(r"shard-[0-9]{6,9}\.npz")
_CONTRAST = re.compile(r"contrast:([0-9]{1,9})")


def _shard_name(value: str) -> None:
    if not _SHARD_NAME.fullmatch(value):
        raise UnfitError("a name such as shard-000000.npz", value)


def _file_name(value: str) -> None:
    if not PurePosixPath(value).name:
        raise UnfitError("the name of a file", value)


def _printed(value: str) -> None:
    if len(value) > MAX_PRINTED:
        raise UnfitError(f"up to {MAX_PRINTED} characters", value)


def _method_key(value: str) -> None:
    if value not in METHODS:
        raise UnfitError(f"one of {', '.join(METHODS)}", value)


Side = Annotated[int, whole(1, MAX_SIDE)]
ShardName = Annotated[str, _shard_name]
"""File name of a shard, which cannot lead to another folder."""

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
        """Return the key from an array's name; None for an array that belongs to no layer."""
        method, slash, layer = name.partition("/")
        return cls(method, layer) if slash else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry(Entry):
    """The model, with what is needed to cite it.

    Attributes:
        name: the model's name, as on the command line.
        source: the origin of the weights.
        sha256: digest of the weights, hexadecimal.
        parameters: number of parameters.
        output: key of the logits in the model's output; None for a tensor or the key ``logits``.
        warning: a warning that every reader must see, if there is one.
        notes: further notes for the reader.
    """

    name: str
    source: Message
    sha256: str
    parameters: Count
    output: str | None = None
    warning: Message | None = None
    notes: tuple[Message, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleEntry(Entry):
    """One run of one of the model's modules.

    Attributes:
        address: name of the module, with ``#number`` if it runs several times.
        type: class name of the module.
        shape: shape of the output for one image; None if the output is not a tensor.
        parameters: number of parameters of the module and of those inside it.
    """

    address: str
    type: str
    shape: tuple[Count, ...] | None
    parameters: Count


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure(Entry):
    """What a model is made of.

    Attributes:
        printed: what ``print(model)`` says, perhaps cut off.
        modules: the runs of its modules, in the order in which they started.
        more: number of further runs that are not listed.
    """

    printed: Annotated[str, _printed]
    modules: tuple[ModuleEntry, ...]
    more: Count

    def check(self) -> None:
        """Refuse more modules than a report lists."""
        if len(self.modules) > MAX_MODULES:
            raise UnfitError(f"up to {MAX_MODULES} entries", len(self.modules), ".modules")


UNKNOWN = Structure(printed="", modules=(), more=0)
"""The structure of a model of which nothing is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassEntry(Entry):
    """A class of the model."""

    index: Count
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerEntry(Entry):
    """A layer with maps or feature maps.

    Attributes:
        address: as the user wrote it, in canonical form.
        type: class name of the layer's module.
        tensor: the tensor used: the layer's own output, or the output of an activation after it.
        shape: shape of that tensor for one image, ``(C, h, w)``.
        same_as: an earlier layer with an equal tensor, if there is one.
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
        stages: number of stages that were lifted; None for the default rule.
    """

    gamma: float
    stages: Count | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip(Entry):
    """A method without maps, and why.

    Attributes:
        method: key of the method.
        layer: address of the layer without a map; None for all layers.
        reason: the reason, for the reader.
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
        index: index of the image among the inputs.
        file: unique name of the file, relative to the INPUT it came from, with forward slashes.
        sha256: digest of the file, hexadecimal; None if the file could not be read.
        width: width of the oriented image, in pixels; None if the image could not be read.
        height: height of the oriented image, in pixels; None if the image could not be read.
        status: ``ok`` if the image was explained, else ``failed``.
        reason: reason why the image could not be read.
        transient: whether reading the unchanged file again may succeed.
        note: note for the reader about the image's pixels.
        label: index of the true class, if it is known.
        labels: indices of all classes that count as right, if there are several.
        groups: values of the run's columns of groups, in their order; None of an image without.
        shard: file name of the shard with the image's arrays.
        row: index of the image in those arrays.
        top: the most probable classes, most probable first.
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
    groups: tuple[str | None, ...] | None = None
    shard: ShardName | None = None
    row: Count | None = None
    top: tuple[Prediction, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether the image was explained."""
        return self.status == "ok"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a readable image, in pixels."""
        assert self.width is not None
        assert self.height is not None
        return self.width, self.height

    def check(self) -> None:
        """Refuse an image that lacks a value that its status requires."""
        needed = ("sha256", "width", "height", "shard", "row") if self.readable else ("reason",)
        for name in needed:
            if getattr(self, name) is None:
                raise UnfitError(f"a value in an image that is {self.status}", None, f".{name}")


class Predicted(Protocol):
    """An image with its true and its predicted classes: all of an ``ImageEntry``, or a part."""

    @property
    def index(self) -> int:
        """Index among the inputs."""

    @property
    def label(self) -> int | None:
        """Index of the true class, if it is known."""

    @property
    def labels(self) -> tuple[int, ...] | None:
        """Indices of all classes that count as right, if there are several."""

    @property
    def groups(self) -> tuple[str | None, ...] | None:
        """Values of the run's columns of groups, if they are known."""

    @property
    def top(self) -> tuple[Prediction, ...]:
        """The most probable class first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar(Entry):
    """The JSON file of a shard; it is written after the arrays and shows that they are complete.

    Attributes:
        run: fingerprint of the run.
        methods: the methods in the shard, each with the settings that affect only its maps.
        images: the inputs of the shard, in order.
        facts: size and version of each input's file; None if they could not be read.
        cost: cost of the shard.
        device: device on which the shard was computed.
        bytes: size of the shard's file of arrays; 0 if no input could be read, so that there is no
            such file.
        findings: notes for the reader that result from the shard's images.
    """

    run: str
    methods: tuple[str, ...] = ()
    images: Annotated[tuple[ImageEntry, ...], filled]
    facts: tuple[Facts | None, ...]
    cost: TotalCost
    device: str
    bytes: Count
    findings: tuple[Message, ...] = ()

    def check(self) -> None:
        """Refuse images out of order, and another number of facts than of images."""
        _check_numbered(self.images, self.images[0].index)
        if len(self.facts) != len(self.images):
            raise UnfitError(f"{len(self.images)} entries", self.facts, ".facts")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueImage(Entry):
    """An image whose true class is not among its explained ones, so that it is explained apart.

    Attributes:
        index: index of the image among the inputs.
        sha256: digest of the file, hexadecimal.
        target: index of the true class.
    """

    index: Count
    sha256: str
    target: Count


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueSidecar(Entry):
    """The JSON file of ``true-000000.npz``, the maps of true classes beside a shard.

    Labels can change without the shard, so these maps have a file of their own. It stays valid
    as long as the run, the images and their true classes are those listed here.

    Attributes:
        run: fingerprint of the run.
        methods: the methods in the file, as in the shard's sidecar; none without a class.
        images: the images in the file, in order, with their true classes.
        cost: cost of the file.
        device: device on which the file was computed.
        bytes: size of the file of arrays.
        findings: notes for the reader that result from these images.
    """

    run: str
    methods: tuple[str, ...]
    images: Annotated[tuple[TrueImage, ...], filled]
    cost: TotalCost
    device: str
    bytes: Count
    findings: tuple[Message, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals(Entry):
    """Sizes of the run.

    Attributes:
        images: number of inputs, failed ones included.
        failed: number of inputs that could not be read.
        shard_length: number of inputs in a shard; the last shard may have fewer.
    """

    images: Annotated[int, whole(1)]
    failed: Count
    shard_length: Annotated[int, whole(1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest(Entry):
    """``manifest.json``: the description of a run and its results.

    Two runs with equal inputs and settings can differ only in ``command``, ``versions``, ``device``
    and ``cost``.

    Attributes:
        schema: version of the folder's layout.
        command: command line that repeats the run.
        versions: versions of camreport and of the libraries, by name.
        device: device on which the results were computed.
        seed: random seed of the noise; None if no noise was drawn.
        model: the model that was explained.
        structure: what the model is made of; empty in results that do not say it.
        preprocessing: the conversion of a photograph to the model's input.
        classes: the model's classes, in the order of their indices.
        groups: names of the columns that divide the images into groups.
        layers: the layers with maps, in network order.
        channels: the layers with feature maps.
        contributions: the layer with its channels' contributions; None if they were not kept.
        methods: keys of the methods, in the order of the request.
        quantity: the score that was explained: ``logit``, ``probability``, ``contrast`` or
            ``contrast:INDEX``.
        activation: how logits become probabilities.
        fusion: how maps were fused.
        smooth: kinds of smoothing that were applied.
        precision: arithmetic of the network's passes.
        skipped: methods without maps, everywhere or at a layer.
        totals: sizes of the run.
        images: all inputs; empty if there are more than ``MAX_INLINE``.
        cost: cost of the maps.
        evidence: what was measured of the maps; None if nothing was.
    """

    schema: int
    command: str
    versions: Mapping[str, str]
    device: str
    seed: int | None
    model: ModelEntry
    structure: Structure = UNKNOWN
    preprocessing: Preprocessing
    classes: Annotated[tuple[ClassEntry, ...], filled]
    groups: tuple[str, ...] = ()
    layers: Annotated[tuple[LayerEntry, ...], filled]
    channels: tuple[LayerEntry, ...]
    contributions: LayerEntry | None = None
    methods: Annotated[tuple[MethodKey, ...], filled]
    quantity: str
    activation: Activation
    fusion: Fusion
    smooth: tuple[Literal["noise", "aug", "eigen"], ...]
    precision: Literal["exact", "tf32", "bf16"]
    skipped: tuple[Skip, ...]
    totals: Totals
    images: tuple[ImageEntry, ...]
    cost: RunCost
    evidence: EvidenceEntry | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes' names, in the order of their indices."""
        return tuple(entry.name for entry in self.classes)

    @property
    def shown_methods(self) -> tuple[str, ...]:
        """Keys of the methods with a map at one layer or more."""
        return methods_with_maps(self.methods, self.layers, self.skipped)

    @property
    def glance(self) -> MapKey:
        """The maps that are shown first: the first method's, at the last layer of its own."""
        last = [layer.address for layer in self.layers if layer.same_as is None][-1]
        return MapKey(self.shown_methods[0], last)

    def check(self) -> None:
        """Refuse entries that contradict each other."""
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
        if self.evidence:
            _check_sample(self.evidence, self.totals.images)
        _check_numbered(self.images, 0, ".images")
        for index, image in enumerate(self.images):
            _check_classes(image, len(self.classes), f".images[{index}]")
            _check_groups(image, len(self.groups), f".images[{index}]")


def methods_with_maps(
    methods: Sequence[str], layers: Sequence[LayerEntry], skipped: Sequence[Skip]
) -> tuple[str, ...]:
    """Return those of a run's methods, by key, that have a map at one layer or more."""
    nowhere = {skip.method for skip in skipped if skip.layer is None}
    at_layer = {(skip.method, skip.layer) for skip in skipped}
    return tuple(
        key
        for key in methods
        if key not in nowhere and any((key, own.address) not in at_layer for own in layers)
    )


def sidecar_of(content: object, manifest: Manifest, shard: int, where: str) -> Sidecar:
    """Return a shard's sidecar after a check that it fits the manifest.

    Args:
        content: as ``json.loads`` gives it.
        manifest: the manifest of the run.
        shard: the number of the shard.
        where: the file that it comes from, for the message.

    Raises:
        ResultsError: a field is missing or does not fit; the message names the field.
    """
    sidecar = Sidecar.from_json(content, where)
    length = manifest.totals.shard_length
    first = shard * length
    with refusing(where):
        check_images(sidecar.images, first, min(length, manifest.totals.images - first), manifest)
    return sidecar


def check_images(images: Sequence[Predicted], first: int, count: int, manifest: Manifest) -> None:
    """Raise ``UnfitError`` for other images than ``count`` from index ``first`` on."""
    if len(images) != count:
        raise UnfitError(f"{count} entries", len(images), ".images")
    _check_numbered(images, first)
    for index, image in enumerate(images):
        _check_classes(image, len(manifest.classes), f".images[{index}]")
        _check_groups(image, len(manifest.groups), f".images[{index}]")


def check_schema(content: Mapping[str, object], where: str) -> None:
    """Refuse a manifest of another schema; the message says what to do.

    Raises:
        ResultsError: the manifest is of an older or newer camreport, or damaged.
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


def _check_classes(image: Predicted, classes: int, path: str) -> None:
    """Raise ``UnfitError`` for an image with the index of a class that does not exist."""
    named = (image.label, *(image.labels or ()), *(entry.index for entry in image.top))
    for index in named:
        if index is not None and index >= classes:
            raise UnfitError(f"class indices up to {classes - 1}", index, path)


def _check_groups(image: Predicted, columns: int, path: str) -> None:
    """Raise ``UnfitError`` for an image with another number of values than of columns."""
    if image.groups is not None and len(image.groups) != columns:
        raise UnfitError(f"{columns} entries", image.groups, path, ".groups")


def _check_sample(evidence: EvidenceEntry, images: int) -> None:
    for index in evidence.sample:
        if index >= images:
            raise UnfitError(f"indices up to {images - 1}", index, ".evidence.sample")


def _check_preprocessing(preprocessing: Preprocessing) -> None:
    sides = (*preprocessing.size, preprocessing.short_side or 1)
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise UnfitError(f"sides from 1 to {MAX_SIDE}", sides, ".preprocessing")
    if math.prod(preprocessing.size) > MAX_PIXELS:
        raise UnfitError(f"up to {MAX_PIXELS:,} pixels", preprocessing.size, ".preprocessing.size")


def _check_numbered(
    entries: Sequence[ClassEntry | Predicted], first: int, path: str = ".images"
) -> None:
    for index, entry in enumerate(entries):
        if entry.index != first + index:
            raise UnfitError(str(first + index), entry.index, path, f"[{index}]", ".index")


def _check_layers(layers: Sequence[LayerEntry], path: str) -> None:
    """Check that addresses are unique, and that ``same_as`` refers to an earlier, other tensor."""
    own: set[str] = set()
    seen: set[str] = set()
    for index, layer in enumerate(layers):
        at = (path, f"[{index}]")
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
