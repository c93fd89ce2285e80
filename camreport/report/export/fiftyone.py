"""``OUT/fiftyone/``: the run as a dataset of FiftyOne, with a heat map for each method and layer.

    fiftyone/metadata.json          the dataset's fields
    fiftyone/samples.json           a sample for each image
    fiftyone/data/000000.jpg        photographs at display size
    fiftyone/fields/<field>/…png    maps of the predicted classes over the whole photograph

    fiftyone datasets create --name NAME --dataset-dir OUT/fiftyone \
        --type fiftyone.types.FiftyOneDataset

Source: https://docs.voxel51.com/user_guide/import_datasets.html#fiftyonedataset (the format), and
    FiftyOneDatasetImporter of version 1.0.0, which joins the paths in ``fields/`` to the folder.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.files import make_folder, write, writing
from camreport.messages.progress import Progress
from camreport.methods import METHODS
from camreport.report.appearance import appearance, seen_part
from camreport.report.export.figures import claim
from camreport.report.export.rows import Placed, number_columns, placed
from camreport.report.heatmap import enlarge
from camreport.results.reader import MapRecord, Results, load_results
from camreport.results.schema import ImageEntry, MapKey, Prediction

FIFTYONE = "fiftyone"
"""The folder of the dataset, in the report's folder."""

VERSION = "1.0.0"
"""Version of FiftyOne whose format this is; newer ones migrate it."""

_FIELDS = "fiftyone.core.fields"
_LABELS = "fiftyone.core.labels"

Record = dict[str, object]
"""A JSON object."""


def export_fiftyone(out: str | Path, progress: Progress = lambda count: None) -> Path:
    """Write ``OUT/fiftyone/``, a folder that FiftyOne imports; it is made anew.

    Each image is a sample with its true class, its prediction, the columns of groups, ``x``, ``y``,
    its clusters, every number of ``images.csv``, and a ``Heatmap`` for each method and layer: the
    predicted class's map as the report draws it, over the whole photograph; of maps with negative
    values 127 is zero.

    Args:
        out: the folder of the report.
        progress: called with the number of newly written images.

    Raises:
        ResultsError: the results are missing, incomplete or damaged, or the folder holds what
            is no dataset of ours.
        OutputError: a file cannot be written.
    """
    results = load_results(out)
    root = results.path.parent
    folder = root / FIFTYONE
    claim(folder, root)
    fields = _map_fields(results)
    for name in ("data", *(f"fields/{field}" for field in fields.values())):
        make_folder(folder / name, root)
    where, numbers = placed(results), _numbers(results)
    with writing(folder / "samples.json", root) as binary:
        file = TextIOWrapper(binary, encoding="utf-8", newline="\n", write_through=True)
        file.write('{"samples": [')
        for place, image in enumerate(results.readable):
            sample = _sample(results, place, image, where, numbers)
            sample |= dict(_heatmaps(results, image, fields, folder))
            file.write(",\n"[not place :] + json.dumps(sample, allow_nan=False))
            progress(1)
        file.write("]}\n")
        file.flush()
        file.detach()
    described = _metadata(results, fields, numbers)
    write(folder / "metadata.json", json.dumps(described, indent=1).encode(), root)
    return folder


def _map_fields(results: Results) -> dict[MapKey, str]:
    """Return the name of the field of each method and layer: ``grad_cam_features_12``."""
    found: dict[MapKey, str] = {}
    for record in results.maps(results.readable[0].index):
        key = MapKey(record.method.key, record.layer)
        if key not in found:
            found[key] = _field(str(key), found.values())
    return found


def _numbers(results: Results) -> dict[str, tuple[str, list[float | None]]]:
    """Return the numbers of the images by field, each with its own name."""
    found: dict[str, tuple[str, list[float | None]]] = {}
    for name, values in number_columns(results).items():
        found[_field(name, found)] = name, values
    return found


def _field(name: str, taken: object) -> str:
    """Return a name that FiftyOne's database takes for a field, and that no other field has."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "field"
    others, number, unique = {*taken}, 2, plain  # type: ignore[misc]
    while unique in others:
        number, unique = number + 1, f"{plain}_{number}"
    return unique


def _sample(
    results: Results,
    place: int,
    image: ImageEntry,
    where: Placed,
    numbers: dict[str, tuple[str, list[float | None]]],
) -> Record:
    """Return the record of an image, without its heat maps; its photograph is written."""
    manifest, root = results.manifest, results.path.parent
    file = f"data/{image.index:06d}.jpg"
    write(root / FIFTYONE / file, results.photo(image.index), root)
    names, top = manifest.class_names, image.top[0] if image.top else None
    sample: Record = {
        "_id": _identity(image, "sample"),
        "filepath": file,
        "tags": [],
        "metadata": None,
        "_media_type": "image",
        "_rand": int(str(image.sha256)[:8], 16) / 2**32,
        "file": image.file,
        "ground_truth": None
        if image.label is None
        else _classification(image, "ground_truth", names[image.label], None),
        "predictions": _prediction(image, top, names),
    }
    for column, value in zip(manifest.groups, image.groups or (), strict=False):
        sample[_group_field(column)] = value
    x, y = where.xy[place].tolist()
    sample |= {"x": x, "y": y} if np.isfinite(x) else {"x": None, "y": None}
    for name, number in zip(("cluster", "cluster_what"), where.clusters[:, place], strict=True):
        sample[name] = f"{names[top.index]}/{number}" if top and number else None
    return sample | {field: values[place] for field, (_, values) in numbers.items()}


def _prediction(image: ImageEntry, top: Prediction | None, names: tuple[str, ...]) -> Record | None:
    if top is None:
        return None
    return _classification(image, "predictions", names[top.index], top.probability)


def _classification(image: ImageEntry, field: str, label: str, confidence: float | None) -> Record:
    """Return the record of a class."""
    return {
        "_id": _identity(image, field),
        "_cls": "Classification",
        "tags": [],
        "label": label,
        "confidence": confidence,
    }


def _heatmaps(
    results: Results, image: ImageEntry, fields: dict[MapKey, str], folder: Path
) -> Iterator[tuple[str, Record]]:
    """Write the maps of an image's predicted class; yield the record of each, by its field."""
    predicted = image.top[0].index if image.top else None
    size = results.photograph(image.index).size
    seen = seen_part(results.manifest.preprocessing, image)
    for record in results.maps(image.index):
        field = fields.get(MapKey(record.method.key, record.layer))
        if field is None or record.target not in (None, predicted):
            continue
        path = f"fields/{field}/{image.index:06d}.png"
        levels = _over_photograph(record, size, seen)
        content = BytesIO()
        Image.fromarray(levels).save(content, "PNG")
        write(folder / path, content.getbuffer(), folder.parent)
        yield (
            field,
            {
                "_id": _identity(image, field),
                "_cls": "Heatmap",
                "tags": [],
                "map_path": path,
                "range": [0, 255],
            },
        )


def _over_photograph(
    record: MapRecord, size: tuple[int, int], seen: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """Return a map's levels over a photograph ``(H, W)``: what the model did not see has none."""
    quantised = appearance(record).quantised
    width, height = size
    rows = slice(round(seen[1] * height), round(seen[3] * height))
    columns = slice(round(seen[0] * width), round(seen[2] * width))
    own = enlarge(quantised.levels, rows.stop - rows.start, columns.stop - columns.start)
    zero = 127 if quantised.signed else 0
    levels = np.full((height, width), zero, np.uint8)
    if quantised.state == "positive":
        levels[rows, columns] = np.floor(own + 0.5)
    return levels


def _identity(image: ImageEntry, what: str) -> dict[str, str]:
    """Return an identity that is the same whenever the same run is exported."""
    text = f"{image.sha256} {image.file} {what}".encode()
    return {"$oid": hashlib.sha256(text).hexdigest()[:24]}


def _group_field(column: str) -> str:
    return f"group_{_field(column, ())}"


def _metadata(
    results: Results,
    fields: dict[MapKey, str],
    numbers: dict[str, tuple[str, list[float | None]]],
) -> Record:
    """Return the record of the dataset: its fields, and what they are."""
    manifest = results.manifest
    texts = {
        "file": "name of the file in the report",
        **{_group_field(column): column for column in manifest.groups},
        "cluster": "by where the maps of the predicted class lie",
        "cluster_what": "by the channels that contribute to the predicted class",
    }
    floats = {"x": "in the plane", "y": "in the plane"} | {
        f: own for f, (own, _) in numbers.items()
    }
    maps = {
        field: f"{METHODS[key.method].name} at {key.layer}, of the predicted class"
        for key, field in fields.items()
    }
    return {
        "name": f"camreport-{results.path.parent.name}",
        "version": VERSION,
        "media_type": "image",
        "persistent": False,
        "info": {"command": manifest.command, "model": manifest.model.name},
        "default_classes": [*manifest.class_names],
        "sample_fields": [
            *_usual_fields(),
            *(_document(field, "Classification") for field in ("ground_truth", "predictions")),
            *(_entry(field, "StringField", description=text) for field, text in texts.items()),
            *(_entry(field, "FloatField", description=text) for field, text in floats.items()),
            *(_document(field, "Heatmap", text) for field, text in maps.items()),
        ],
    }


def _usual_fields() -> list[Record]:
    """Return the fields that each dataset of FiftyOne has."""
    return [
        _entry("id", "ObjectIdField", stored="_id"),
        _entry("filepath", "StringField"),
        _entry("tags", "ListField", subfield=f"{_FIELDS}.StringField"),
        _entry(
            "metadata",
            "EmbeddedDocumentField",
            document="fiftyone.core.metadata.ImageMetadata",
            fields=[
                _entry("size_bytes", "IntField"),
                _entry("mime_type", "StringField"),
                *(_entry(name, "IntField") for name in ("width", "height", "num_channels")),
            ],
        ),
        _entry("created_at", "DateTimeField", fixed=True),
        _entry("last_modified_at", "DateTimeField", fixed=True),
    ]


def _document(field: str, kind: str, description: str | None = None) -> Record:
    """Return the entry of a field of labels."""
    own = {
        "Classification": [
            _entry("label", "StringField"),
            _entry("confidence", "FloatField"),
            _entry("logits", "VectorField"),
        ],
        "Heatmap": [
            _entry("map", "ArrayField"),
            _entry("map_path", "StringField"),
            _entry("range", "HeatmapRangeField", subfield=f"{_FIELDS}.FloatField"),
        ],
    }
    usual = [
        _entry("id", "ObjectIdField", stored="_id"),
        _entry("tags", "ListField", subfield=f"{_FIELDS}.StringField"),
    ]
    return _entry(
        field,
        "EmbeddedDocumentField",
        document=f"{_LABELS}.{kind}",
        fields=[*usual, *own[kind]],
        description=description,
    )


def _entry(
    name: str,
    kind: str,
    *,
    stored: str | None = None,
    document: str | None = None,
    subfield: str | None = None,
    fields: list[Record] | None = None,
    description: str | None = None,
    fixed: bool = False,
) -> Record:
    """Return the entry of a field in the dataset's record."""
    return {
        "name": name,
        "ftype": f"{_FIELDS}.{kind}",
        "embedded_doc_type": document,
        "subfield": subfield,
        "fields": fields or [],
        "db_field": stored or name,
        "description": description,
        "info": None,
        "read_only": fixed,
    }
