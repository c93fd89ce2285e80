"""The tables of a run's evidence, against numpy and scipy on the arrays of its files."""

from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic
from helpers.synthetic_evidence import write_evidence
from numpy.typing import NDArray
from scipy import stats

from camreport.insight import evidence as tables
from camreport.insight.evidence import EvidenceTable, Tally, evidence_table
from camreport.insight.evidence_columns import evidence_columns, misplaced
from camreport.metrics.controls import CONTROLS
from camreport.metrics.values import Undefined
from camreport.results.reader import Results, load_results
from camreport.results.shards import Arrays

SAMPLE = 40


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-eight images with full evidence, drawn."""
    folder = tmp_path_factory.mktemp("tables") / "out"
    synthetic.write_results(folder, 48, grids=synthetic.SMALL, photo_side=32)
    return write_evidence(folder, level="full", sample=SAMPLE, regions=True)


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return load_results(out)


@pytest.fixture(scope="module")
def table(results: Results) -> EvidenceTable:
    found = evidence_table(results)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def arrays(out: Path) -> Arrays:
    with np.load(out / "results/evidence-000000.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def predicted(out: Path) -> NDArray[np.intp]:
    """Slot of each image's most probable class."""
    with np.load(out / "results/shard-000000.npz") as file:
        return np.array(file["logits"].argmax(1))


def of_predicted(
    arrays: Arrays, predicted: NDArray[np.intp], number: str, row: str, layer: str
) -> NDArray[np.float64]:
    """Return a number of each image, from the file."""
    values = arrays[f"{number}/{row}/{layer}"].astype(float)
    return np.array([own[slot] for own, slot in zip(values, predicted, strict=True)])


def tally(table: EvidenceTable, *place: str) -> Tally:
    found = table.tally(*place)
    assert found is not None
    return found


@pytest.mark.parametrize("number", ["contrast", "effect", "learned", "regions.lift"])
@pytest.mark.parametrize("row", ["grad_cam", "layer_cam", "control:edges"])
def test_medians_and_counts_are_those_of_the_arrays(
    table: EvidenceTable, arrays: Arrays, predicted: NDArray[np.intp], number: str, row: str
) -> None:
    values = of_predicted(arrays, predicted, number, row, "b")
    own = tally(table, number, row, "b")
    assert own.n == np.count_nonzero(~np.isnan(values))
    assert own.median == pytest.approx(np.nanmedian(values))
    reasons = arrays[f"{number}.why/{row}/b"][np.arange(48), predicted]
    lost = int((reasons == Undefined.NO_POSITIVE).sum())
    assert dict(own.undefined) == ({"no_positive": lost} if lost else {})
    measured = 48 if number in ("contrast", "regions.lift") else SAMPLE
    assert own.n + sum(own.undefined.values()) == measured


def test_intervals_are_those_of_a_bootstrap_by_scipy(
    table: EvidenceTable, arrays: Arrays, predicted: NDArray[np.intp]
) -> None:
    values = of_predicted(arrays, predicted, "effect", "grad_cam", "b")
    known = values[~np.isnan(values)]
    expected = stats.bootstrap(
        (known,), np.median, method="percentile", n_resamples=20_000, random_state=1
    ).confidence_interval
    own = tally(table, "effect", "grad_cam", "b")
    ordered = np.sort(known)
    for found, wanted in ((own.low, expected.low), (own.high, expected.high)):
        assert found is not None
        places = np.searchsorted(ordered, [found, wanted])
        assert abs(int(places[0]) - int(places[1])) <= 1, "a neighbour among the values at most"


def test_each_class_that_all_images_explain_has_a_scope(
    table: EvidenceTable, arrays: Arrays
) -> None:
    assert [(scope.key, scope.target) for scope in table.scopes] == [
        ("predicted", None),
        ("class:0", 0),
        ("class:1", 1),
    ]
    for slot in (0, 1):
        values = arrays["contrast/grad_cam/a"][:, slot]
        own = tally(table, "contrast", "grad_cam", "a", f"class:{slot}")
        assert own.median == pytest.approx(np.nanmedian(values))


def test_a_method_beats_every_control_where_it_is_better_than_each(
    table: EvidenceTable, arrays: Arrays, predicted: NDArray[np.intp]
) -> None:
    for number, sign in (("effect", 1), ("order.deletion", -1)):
        own = of_predicted(arrays, predicted, number, "layer_cam", "b")
        others = [of_predicted(arrays, predicted, number, row, "b") for row in CONTROLS]
        better = of = 0
        for value, *controls in zip(own, *others, strict=True):
            if not np.isnan([value, *controls]).any():
                of += 1
                better += all(sign * value > sign * control for control in controls)
        assert tally(table, number, "layer_cam", "b").beats == (better, of)
    assert tally(table, "effect", "control:edges", "b").beats is None


@pytest.mark.parametrize("number", ["contrast", "stability", "extent", "learned"])
def test_what_a_control_has_by_construction_is_not_compared(
    table: EvidenceTable, number: str
) -> None:
    assert tally(table, number, "grad_cam", "b").beats is None


def test_methods_are_told_apart_where_the_median_difference_is_surely_not_zero(
    table: EvidenceTable, arrays: Arrays, predicted: NDArray[np.intp]
) -> None:
    medians = {
        row: tally(table, "effect", row, "b").median or 0 for row in ("grad_cam", "layer_cam")
    }
    best, other = sorted(medians, key=lambda row: -medians[row])
    assert tally(table, "effect", best, "b").apart is True
    differences = of_predicted(arrays, predicted, "effect", best, "b") - of_predicted(
        arrays, predicted, "effect", other, "b"
    )
    known = differences[~np.isnan(differences)]
    drawn = np.random.default_rng(5).choice(known, (4000, len(known)))
    surely = bool(np.quantile(np.median(drawn, 1), 0.025) > 0)
    assert tally(table, "effect", other, "b").apart is surely
    assert tally(table, "extent", other, "b").apart is None, "neither end is better"
    assert tally(table, "effect", "control:edges", "b").apart is None


def test_a_class_contrast_that_opposite_logits_decide_is_no_best_one(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, 40, grids=synthetic.SMALL, photo_side=32)
    path = write_evidence(tmp_path, sample=16) / "results/evidence-000000.npz"
    with np.load(path) as file:
        changed = dict(file)
    for number in ("contrast", "contrast.overlap"):
        values = changed[f"{number}/grad_cam/b"]
        values[~np.isnan(values)] = -1.0 if number == "contrast" else 0.0
    np.savez(path, **changed)  # type: ignore[arg-type]
    found = evidence_table(load_results(tmp_path))
    assert found is not None
    for number in ("contrast", "contrast.overlap"):
        assert tally(found, number, "grad_cam", "b").apart is None
        assert tally(found, number, "layer_cam", "b").apart is True, "the only one to be ordered"
        assert tally(found, number, "grad_cam", "a").apart is not None


def test_under_thirty_images_nothing_is_told_apart(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, 29, grids=synthetic.SMALL, photo_side=32)
    found = evidence_table(load_results(write_evidence(tmp_path, level="full", sample=29)))
    assert found is not None
    assert {own.apart for own in found.tallies} == {None}


def test_one_image_has_a_median_and_no_interval(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, 1, grids=synthetic.SMALL, photo_side=32)
    found = evidence_table(load_results(write_evidence(tmp_path, sample=1, seed=3)))
    assert found is not None
    measured = [own for own in found.tallies if own.n]
    assert measured
    assert {(own.low, own.high) for own in measured} == {(None, None)}
    assert all(own.median is not None for own in measured)


def test_numbers_without_a_map_come_last_and_chance_is_the_runs(
    table: EvidenceTable, arrays: Arrays, predicted: NDArray[np.intp]
) -> None:
    without = [own.key.number for own in table.tallies if not own.key.row]
    assert [own.key.number for own in table.tallies][-len(without) :] == without
    assert {*without} == {"effect.ceiling", "effect.additivity"}
    ceiling = arrays["effect.ceiling"][np.arange(48), predicted]
    assert tally(table, "effect.ceiling").median == pytest.approx(np.nanmedian(ceiling))
    assert table.chance["grid"] == 0.25
    assert tally(table, "grid", "grad_cam", "a").n == SAMPLE // 4 * 4


def test_a_method_that_repeats_another_has_no_row(results: Results) -> None:
    found = evidence_table(results, {"layer_cam": "grad_cam"})
    assert found is not None
    assert {own.key.row for own in found.tallies if own.key.row} == {"grad_cam", *CONTROLS}


def test_of_many_images_counts_are_of_all_and_medians_of_those_that_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.write_results(tmp_path, 150, grids={"a": 5}, photo_side=32)
    results = load_results(write_evidence(tmp_path, level="full", sample=20))
    whole = evidence_table(results)
    monkeypatch.setattr(tables, "MAX_IMAGES", 50)
    drawn = evidence_table(results)
    assert whole is not None
    assert drawn is not None
    assert (whole.drawn, drawn.drawn) == (None, 50)
    counts = [
        [(own.key, own.scope, own.n, own.undefined) for own in t.tallies] for t in (whole, drawn)
    ]
    assert counts[0] == counts[1]
    sampled = [own for own in drawn.tallies if own.key.number in ("effect", "learned")]
    assert sampled
    for own in sampled:
        assert own == whole.tally(*own.key, own.scope), "the sample is always among the drawn"
    assert tally(drawn, "contrast", "grad_cam", "a") != tally(whole, "contrast", "grad_cam", "a")
    assert drawn == evidence_table(results), "drawn by the run's seed"


def test_columns_hold_each_image_and_the_samples_apart(
    results: Results, arrays: Arrays, predicted: NDArray[np.intp]
) -> None:
    columns = evidence_columns(results, "b")
    values = of_predicted(arrays, predicted, "contrast", "layer_cam", "b")
    shown = np.array(columns.numbers["contrast.layer_cam"], float)
    np.testing.assert_allclose(shown, values, atol=6e-4)
    assert columns.places == tuple(sorted(columns.places))
    assert len(columns.places) == SAMPLE
    effect = of_predicted(arrays, predicted, "effect", "grad_cam", "b")
    sampled = np.array(columns.sampled["effect.grad_cam"], float)
    np.testing.assert_allclose(sampled, effect[list(columns.places)], atol=6e-4)
    spread = np.array(columns.spread(48)["effect.grad_cam"], float)
    np.testing.assert_allclose(spread, effect, atol=6e-4)
    assert not any("control" in name for name in (*columns.numbers, *columns.sampled))


def test_of_very_many_images_only_answers_are_columns_and_the_peak(results: Results) -> None:
    names = evidence_columns(results, "b", ["layer_cam"], most=10)
    assert {*names.numbers} == {*("contrast.grad_cam", "regions.grad_cam", "regions.hit.grad_cam")}
    assert {*names.sampled} == {
        *("effect.grad_cam", "order.grad_cam", "learned.grad_cam", "stability.grad_cam")
    }


def test_right_answers_with_the_peak_elsewhere_are_counted(
    results: Results, arrays: Arrays, predicted: NDArray[np.intp]
) -> None:
    hits = of_predicted(arrays, predicted, "regions.hit", "grad_cam", "b")
    right = np.array([image.label for image in results.readable]) == predicted
    wrong_place, of = int((hits[right] == 0).sum()), int(np.isfinite(hits[right]).sum())
    found = misplaced(results.readable, evidence_columns(results, "b"))
    assert found["grad_cam"] == (wrong_place, of)
    assert 0 < wrong_place < of


def test_without_evidence_there_is_no_table(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, 2, grids=synthetic.SMALL, photo_side=32)
    assert evidence_table(load_results(tmp_path)) is None
    assert evidence_columns(load_results(tmp_path), "b").numbers == {}
