"""The document on evidence: every number is explained, and its examples of regions are read."""

import re
from pathlib import Path

import pytest
from helpers.checkout import INPUTS, ROOT

from camreport.images.inputs import InputFile
from camreport.images.preprocessing import Box
from camreport.images.regions.find import find_regions
from camreport.metrics import METRICS

DOCUMENT = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```(json|xml|yolo)\n(.*?)```", DOCUMENT, re.DOTALL))
TABLES = re.findall(r"```csv\n(.*?)```", DOCUMENT, re.DOTALL)
NAMES = {"json": "regions.json", "xml": "cat.xml", "yolo": "cat.txt"}


def test_every_number_of_every_metric_is_explained() -> None:
    numbers = [number.key for metric in METRICS.values() for number in metric.numbers]
    assert [key for key in numbers if f"`{key}`" not in DOCUMENT] == []


@pytest.mark.parametrize("form", NAMES)
def test_the_examples_of_regions_mean_one_box(form, tmp_path) -> None:
    (tmp_path / NAMES[form]).write_text(EXAMPLES[form], encoding="utf-8")
    files = [InputFile(str(INPUTS / name), name) for name in ("both.jpg", "cat.jpg")]
    for path in (tmp_path / NAMES[form], tmp_path):
        (photo,) = find_regions(path, files).values()
        ((outline, label),) = photo.outlines
        assert [*vars(outline.box).values()] == pytest.approx([0, 0, 400, 448], abs=0.05)
        assert label in ("cat", "0")


def test_the_examples_of_tables_are_read_without_a_complaint(tmp_path: Path) -> None:
    files = [InputFile(str(INPUTS / name), name) for name in ("both.jpg", "cat.jpg", "dog.jpg")]
    counts = []
    for text in TABLES:
        (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
        notes: list[str] = []
        found = find_regions(tmp_path / "boxes.csv", files, notes.append)
        counts.append(sum(len(photo.outlines) for photo in found.values()))
        assert not any(note.startswith("warning") for note in notes)
        assert found[1].outlines[0][0].box == Box(0, 0, 400, 448)
    assert counts == [4, 1]
