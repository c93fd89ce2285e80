"""``images.parquet``: one row for each image, for Embedding Atlas, pandas and the like."""

from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camreport.errors import OutputError
from camreport.files import is_file, reading, write
from camreport.report.export.rows import Placed, number_columns, placed
from camreport.results.reader import Results, load_results
from camreport.version import __version__

PARQUET = "images.parquet"
"""File name of the table, in the report's folder."""

MARK = b"camreport.version"
"""Key of the table's metadata that says who has written it."""

MAX_FOOTER = 1 << 20
"""Number of bytes at the end of a file in which the mark is looked for."""

MAX_PARQUET_BYTES = 8 * 1024**3
"""Largest number of bytes of a table."""


def export_parquet(out: str | Path) -> Path:
    """Write ``OUT/images.parquet``: a row for each readable image.

    Columns: ``image``, ``true_class``, ``predicted_class``, ``probability``, ``group_<column>`` for
    the columns of groups, ``x`` and ``y`` in the plane, ``cluster`` (by where the maps lie) and
    ``cluster_what`` (by the channels that contribute), as ``cat/2``, every number of
    ``images.csv``, and ``neighbors``: row numbers (``ids``) and ``distances`` of the nearest.

    Args:
        out: the folder of the report.

    Raises:
        ResultsError: the results are missing, incomplete or damaged.
        OutputError: pyarrow is not installed, or the table cannot be written.
    """
    arrow, parquet = _pyarrow()
    results = load_results(out)
    path = results.path.parent / PARQUET
    where = placed(results)
    table = arrow.table(_columns(results, where, arrow))
    facts = {MARK.decode(): __version__, "camreport.space": where.space}
    facts |= {"camreport.projection": where.projection}
    content = BytesIO()
    parquet.write_table(table.replace_schema_metadata(facts), content)
    write(path, content.getbuffer(), path.parent)
    return path


def is_our_parquet(path: Path) -> bool:
    """Say whether a file is a table that ``export_parquet`` has written."""
    if not is_file(path):
        return False
    with reading(path, path.parent, MAX_PARQUET_BYTES, partly=True) as file:
        file.seek(max(0, file.seek(0, 2) - MAX_FOOTER))
        return MARK in file.read(MAX_FOOTER)


def _columns(results: Results, where: Placed, arrow: Any) -> dict[str, Any]:
    """Return the columns of the table."""
    manifest, images = results.manifest, results.readable
    names = manifest.class_names
    tops = [one.top[0] if one.top else None for one in results.outlines]
    predicted = [None if top is None else names[top.index] for top in tops]
    columns: dict[str, Any] = {
        "image": [one.file for one in images],
        "true_class": [None if one.label is None else names[one.label] for one in results.outlines],
        "predicted_class": predicted,
        "probability": [None if top is None else top.probability for top in tops],
    }
    for place, column in enumerate(manifest.groups):
        columns[f"group_{column}"] = [
            one.groups[place] if one.groups else None for one in results.outlines
        ]
    x, y = (arrow.array(own, from_pandas=True) for own in where.xy.T)  # NaN is null
    columns |= {"x": x, "y": y}
    for name, numbers in zip(("cluster", "cluster_what"), where.clusters.tolist(), strict=True):
        pairs = zip(predicted, numbers, strict=True)
        text = [f"{own}/{number}" if number else None for own, number in pairs]
        columns[name] = arrow.array(text, arrow.string())
    for name, values in number_columns(results).items():
        columns[name] = arrow.array(values, arrow.float64())
    columns["neighbors"] = _neighbours(where.neighbours, where.distances, arrow)
    return columns


def _neighbours(neighbours: NDArray[np.int64], distances: NDArray[np.float32], arrow: Any) -> Any:
    """Return the nearest images as the structure that Embedding Atlas reads; null without any."""
    rows = [
        {"ids": ids[ids >= 0].tolist(), "distances": own[ids >= 0].tolist()}
        if (ids >= 0).any()
        else None
        for ids, own in zip(neighbours, distances, strict=True)
    ]
    lists = [("ids", arrow.list_(arrow.int64())), ("distances", arrow.list_(arrow.float32()))]
    return arrow.array(rows, arrow.struct(lists))


def _pyarrow() -> tuple[Any, ModuleType]:
    """Return pyarrow and its module of Parquet files.

    Raises:
        OutputError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise OutputError(
            "parquet: pyarrow is not installed. Get it with: pip install 'camreport[parquet]'"
        ) from error
    return pyarrow, pyarrow.parquet
