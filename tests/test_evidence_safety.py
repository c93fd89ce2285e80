"""Evidence of others and damaged evidence: read, refused in one sentence, or measured again."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.mutations import damaged, mutated, reshaped
from helpers.runs import run, tiny, write_images

from camreport.errors import ResultsError
from camreport.insight.evidence import evidence_table
from camreport.insight.evidence_columns import evidence_columns
from camreport.models import LoadedModel
from camreport.report.export import export_tables
from camreport.results.reader import load_results

ARRAYS = ("evidence-000000.npz", "collages.npz")
OPTIONS: dict[str, Any] = {
    **{"evidence": "full", "evidence_images": "all", "class_names": ["cat", "dog"]},
    **{"methods": ["grad_cam"], "layers": ["2"]},
}


def decided(photos: Path, out: Path) -> LoadedModel:
    """Return a model that predicts both classes, and so surely that they fit a collage."""
    model = tiny()
    run(photos, out, model)
    logits = np.stack([load_results(out).logits(index) for index in range(4)])
    with torch.no_grad():
        model.module.head[3].bias.sub_(torch.from_numpy(np.median(logits, 0)))
    model.module.factor = 1e4
    return model


@pytest.fixture(scope="module")
def model(measured: Path) -> LoadedModel:
    """The model whose maps are measured."""
    return decided(measured.parent / "photos", measured.parent / "first")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all evidence, collages among it; not to change."""
    folder = tmp_path_factory.mktemp("measured")
    photos = write_images(folder / "photos", 4)
    run(photos, folder / "out", decided(photos, folder / "first"), **OPTIONS)
    assert all((folder / "out/results" / name).is_file() for name in ARRAYS)
    return folder / "out"


def read_evidence(out: Path) -> None:
    """Read all evidence, as the report and the tables do."""
    results = load_results(out)
    for image in results.readable:
        results.evidence(image.index)
    results.collages()
    evidence_table(results)
    evidence_columns(results, results.manifest.glance.layer)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("seed", range(3))
def test_mutated_evidence_ends_in_one_sentence_or_is_read(
    measured: Path, tmp_path: Path, name: str, seed: int
) -> None:
    draw, refused = random.Random(seed), list[str]()
    out = Path(shutil.copytree(measured, tmp_path / "out"))
    file = out / "results" / name
    with np.load(file) as loaded:
        original = dict(loaded)
    for _ in range(20):
        with file.open("wb") as binary:
            np.savez(binary, **reshaped(original, draw))
        try:
            read_evidence(out)
        except ResultsError as error:
            refused.append(str(error))
        else:
            export_tables(out)
    assert len(refused) > 8
    assert all(name in sentence for sentence in refused)


@pytest.mark.parametrize("name", ARRAYS)
def test_damaged_evidence_ends_in_one_sentence_or_is_read(
    measured: Path, tmp_path: Path, name: str
) -> None:
    draw, ended = random.Random(0), list[str]()
    out = Path(shutil.copytree(measured, tmp_path / "out"))
    file = out / "results" / name
    original = file.read_bytes()
    for _ in range(40):
        file.write_bytes(damaged(original, draw))
        try:
            read_evidence(out)
        except ResultsError as error:
            ended.append(str(error))
    assert len(ended) > 10
    assert all(name in sentence for sentence in ended)


@pytest.mark.parametrize("name", ["evidence-000000.json", "collages.json"])
def test_a_run_with_mutated_records_of_evidence_comes_to_the_same_evidence(
    measured: Path, model: LoadedModel, tmp_path: Path, name: str
) -> None:
    draw, photos = random.Random(1), measured.parent / "photos"
    expected = {each: (measured / "results" / each).read_bytes() for each in ARRAYS}
    for number in range(4):
        out = Path(shutil.copytree(measured, tmp_path / str(number)))
        file = out / "results" / name
        original = json.loads(file.read_text("utf-8"))
        if number < 3:
            file.write_text(json.dumps(mutated(original, draw)), encoding="utf-8")
        else:
            file.write_bytes(damaged(file.read_bytes(), draw))
        run(photos, out, model, **OPTIONS)
        read_evidence(out)
        found = {each: (out / "results" / each).read_bytes() for each in ARRAYS}
        assert found == expected, file.read_text("utf-8", "replace")
