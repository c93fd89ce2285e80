"""The images in which each channel of one layer contributes most, against numpy over all images."""

from pathlib import Path

import numpy as np
import pytest
from helpers.runs import run_by_two, tiny, write_images

from camreport.errors import ResultsError
from camreport.insight.channels import TOP_IMAGES, top_images
from camreport.results import reader
from camreport.results.reader import Results, load_results


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on fifteen photographs in shards of two, one unreadable, with one class of four."""
    folder = tmp_path_factory.mktemp("tops")
    write_images(folder / "photos", 15)
    (folder / "photos" / "05.png").write_bytes(b"x")
    run_by_two(folder / "photos", folder / "out", tiny(classes=4), classes="top3", layers=["2"])
    return folder / "out"


def test_tops_are_those_of_all_images_at_once(out: Path) -> None:
    results = load_results(out)
    found = top_images(results)
    assert found is not None
    assert found.layer == "features.2"
    images = [one.index for one in results.readable]
    values = np.stack([results.contributions(index)[0] for index in images])  # of the top class
    positive = np.maximum(values.astype(np.float64), 0).sum(1)
    for channel in range(6):
        own = values[:, channel]
        order = [row for row in np.argsort(-own, kind="stable") if own[row] > 0][:TOP_IMAGES]
        blank = [-1] * (TOP_IMAGES - len(order))
        assert found.images[channel].tolist() == [images[row] for row in order] + blank
        predicted = [results.images[images[row]].top[0].index for row in order]
        assert found.classes[channel].tolist() == predicted + blank
        np.testing.assert_array_equal(found.values[channel, : len(order)], own[order])
        shares = own[order] / positive[order]
        np.testing.assert_allclose(found.shares[channel, : len(order)], shares, rtol=1e-6)
        assert np.isnan(found.values[channel, len(order) :]).all()
        assert np.isnan(found.shares[channel, len(order) :]).all()


def test_a_strong_activation_without_effect_is_no_contribution(
    photos: Path, tmp_path: Path
) -> None:
    model = tiny()
    model.module.features[2].weight.data[3] *= 1000  # the strongest channel by far
    model.module.head[1].weight.data[:, 3 * 20 : 4 * 20] = 0  # and no logit depends on it
    run_by_two(photos, tmp_path / "out", model)
    found = top_images(load_results(tmp_path / "out"))
    assert found is not None
    assert (found.images[3] == -1).all()
    assert (found.images >= 0).any()


def test_the_order_of_the_shards_changes_nothing(out: Path) -> None:
    results, other = load_results(out), load_results(out)
    ordered = list(results.readable)
    shards = [[one for one in ordered if one.shard == name] for name in {o.shard for o in ordered}]
    backwards = [one for shard in sorted(shards, key=lambda s: -s[0].index) for one in shard]
    vars(other)["_read"] = backwards, ()
    one, two = top_images(results), top_images(other)
    assert one is not None
    assert two is not None
    for name in ("images", "classes", "values", "shares"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_each_shard_is_read_once_and_no_map(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, names = reader.read_some, list[str]()

    def counting(path: Path, *given: object) -> dict[str, object]:
        names.append(path.name)
        found = read(path, *given)
        assert sorted(found) == ["channel_contributions/features.2", "image", "targets"]
        return found

    monkeypatch.setattr(reader, "read_some", counting)
    top_images(load_results(out))
    assert len(names) == len({*names}) == 8


def test_runs_without_contributions_have_no_tops(photos: Path, tmp_path: Path) -> None:
    run_by_two(photos, tmp_path / "out", contributions="off")
    assert top_images(load_results(tmp_path / "out")) is None


def test_a_shard_that_does_not_fit_is_refused(photos: Path, tmp_path: Path) -> None:
    run_by_two(photos, tmp_path / "out")
    results: Results = load_results(tmp_path / "out")
    path = tmp_path / "out" / "results" / "shard-000001.npz"
    with np.load(path) as arrays:
        changed = dict(arrays)
    changed["channel_contributions/features.2"] = changed["channel_contributions/features.2"][:1]
    np.savez(path, **changed)
    with pytest.raises(ResultsError, match=r"shard-000001\.npz does not match the manifest"):
        top_images(results)
