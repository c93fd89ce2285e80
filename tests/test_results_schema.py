"""The entries of a results folder: JSON and back, and what is refused."""

import copy
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from camreport.errors import ResultsError
from camreport.images.inputs import Facts
from camreport.images.preprocessing import Preprocessing
from camreport.messages import message
from camreport.results.costs import Cost, TotalCost
from camreport.results.evidence import RunCost
from camreport.results.schema import (
    ClassEntry,
    Fusion,
    ImageEntry,
    LayerEntry,
    Manifest,
    MapKey,
    ModelEntry,
    ModuleEntry,
    Prediction,
    Sidecar,
    Skip,
    Structure,
    Totals,
    check_schema,
)

COST = Cost(forwards=1, backwards=2, variants=0, maps=4, seconds=0.5)
TOTAL = TotalCost(
    forwards=1, backwards=2, variants=0, maps=4, seconds=0.5, families={"shared": COST}
)
OK = ImageEntry(
    index=0,
    file="cats/a.jpg",
    sha256="0" * 64,
    width=40,
    height=30,
    status="ok",
    label=1,
    shard="shard-000000.npz",
    row=0,
    top=(Prediction(index=1, name="dog", probability=0.75),),
)
FAILED = ImageEntry(
    index=1,
    file="cats/b.jpg",
    sha256=None,
    width=None,
    height=None,
    status="failed",
    reason=message("images.empty"),
)
MANIFEST = Manifest(
    schema=3,
    command="camreport run cats -o out",
    versions={"camreport": "0"},
    device="cpu",
    precision="exact",
    seed=None,
    model=ModelEntry(
        name="tiny",
        source=message("results.text", text="a test"),
        sha256="0" * 64,
        parameters=7,
        notes=(),
    ),
    structure=Structure(
        printed="Sequential(\n  (0): Conv2d()\n)",
        modules=(
            ModuleEntry(address="0", type="Conv2d", shape=(4, 8, 9), parameters=7),
            ModuleEntry(address="1", type="Odd", shape=None, parameters=0),
        ),
        more=2,
    ),
    preprocessing=Preprocessing(size=(32, 40)),
    classes=(ClassEntry(index=0, name="cat"), ClassEntry(index=1, name="dog")),
    layers=(
        LayerEntry(
            address="0",
            type="Conv2d",
            tensor=message("network.tensor.after", activation="ReLU"),
            shape=(4, 8, 9),
        ),
        LayerEntry(
            address="1",
            type="ReLU",
            tensor=message("network.tensor.own"),
            shape=(4, 8, 9),
            same_as="0",
        ),
    ),
    channels=(),
    methods=("grad_cam", "layer_cam"),
    quantity="contrast:1",
    activation="softmax",
    fusion=Fusion(gamma=2.0, stages=None),
    smooth=(),
    skipped=(Skip(method="layer_cam", layer=None, reason=message("results.text", text="so")),),
    totals=Totals(images=2, failed=1, shard_length=64),
    images=(OK, FAILED),
    cost=RunCost(**{own.name: getattr(TOTAL, own.name) for own in fields(TOTAL)}),
)


def test_a_manifest_comes_back_as_it_was() -> None:
    assert Manifest.from_json(MANIFEST.to_json(), "manifest.json") == MANIFEST


def test_a_sidecar_comes_back_as_it_was() -> None:
    facts = (Facts(9, "1 3"), None)
    sidecar = Sidecar(
        run="f", images=(OK, FAILED), facts=facts, cost=TOTAL, device="cpu", bytes=100
    )
    assert Sidecar.from_json(sidecar.to_json(), "shard-000000.json") == sidecar


def test_an_optional_field_that_is_not_there_is_left_out_of_the_json() -> None:
    content = FAILED.to_json()
    assert content == {
        "index": 1,
        "file": "cats/b.jpg",
        "sha256": None,
        "width": None,
        "height": None,
        "status": "failed",
        "reason": {"code": "images.empty"},
        "top": [],
    }


def test_fields_of_a_later_version_are_passed_over() -> None:
    """So that what only adds something needs no new schema."""
    content = MANIFEST.to_json()
    content["clusters"] = {"sizes": []}
    content["images"][0]["clusters"] = [1]
    assert Manifest.from_json(content, "manifest.json") == MANIFEST


def put(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts a value at a place of a manifest."""

    def change(content: Any) -> None:
        for name in place[:-1]:
            content = content[name]
        content[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put("images", 0, "width", value="4"), r"as images\[0\]\.width in manifest\.json, got '4'"),
        (put("images", 0, "width", value=None), r"as images\[0\]\.width in manifest\.json"),
        (put("images", 0, "row", value=True), r"a whole number as images\[0\]\.row"),
        (put("images", 0, "row", value=-1), r"from 0 to \d+ as images\[0\]\.row"),
        (put("images", 0, "label", value=2), r"up to 1 as images\[0\] in"),
        (put("images", 1, "index", value=0), r"1 as images\[1\]\.index"),
        (put("images", 0, "status", value="fine"), r"one of ok, failed as images\[0\]\.status"),
        (put("images", 0, "shard", value="../x.npz"), r"a name such as shard-000000\.npz"),
        (put("images", value=[OK.to_json()]), "2 entries or none as images"),
        (put("totals", "failed", value=0), r"as totals\.failed"),
        (put("totals", "failed", value=2), r"at least one that could be read"),
        (put("images", 1, "reason", value="why"), r"a message as images\[1\]\.reason"),
        (put("images", 1, "reason", "code", value="x.y"), r"this version knows as .*reason"),
        (put("images", 1, "reason", value={"code": "results.text"}), r"this version knows"),
        (put("model", "source", "values", "text", value=["x"]), r"as model\.source\.values\.text"),
        (put("model", "source", "values", "text", value="x" * 4001), r"up to 4000 characters"),
        (put("preprocessing", "mean", value=[0, 0]), r"3 entries as preprocessing\.mean"),
        (put("preprocessing", "size", value=[10**6, 10**6]), r"pixels as preprocessing\.size"),
        (put("layers", 1, "same_as", value="9"), r"an earlier layer as layers\[1\]\.same_as"),
        (put("layers", 1, "address", value="0"), r"each address once as layers\[1\]\.address"),
        (put("methods", value=["x"]), r"as methods\[0\]"),
        (put("methods", value=[]), "a list with entries as methods"),
        (put("methods", value=["layer_cam"]), "at least one with a map as methods"),
        (put("quantity", value="contrast:2"), "contrast and a class index as quantity"),
        (put("quantity", value="x"), "logit, probability or contrast as quantity"),
        (put("cost", "families", "shared", "maps", value=1.5), r"as cost\.families\.shared"),
        (put("cost", "families", "x", value=COST.to_json()), "a kind of passes as cost.families"),
        (put("fusion", "gamma", value=float("nan")), r"a number as fusion\.gamma"),
        (put("command", value="\ud800"), "a text of whole characters as command"),
        (lambda content: content.pop("layers"), r"an object with 'layers' in manifest\.json"),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    content = copy.deepcopy(MANIFEST.to_json())
    change(content)
    with pytest.raises(ResultsError, match=f"^results: expected .*{sentence}"):
        Manifest.from_json(content, "manifest.json")


def test_a_sidecar_of_other_images_is_refused() -> None:
    sidecar = Sidecar(run="f", images=(OK,), facts=(None,), cost=TOTAL, device="cpu", bytes=1)
    content = sidecar.to_json()
    with pytest.raises(ResultsError, match=r"1 entries as facts in shard-000000\.json"):
        Sidecar.from_json(content | {"facts": []}, "shard-000000.json")
    with pytest.raises(ResultsError, match=r"a list with entries as images"):
        Sidecar.from_json(content | {"images": [], "facts": []}, "shard-000000.json")
    twice = {"images": [OK.to_json(), OK.to_json()], "facts": [None, None]}
    with pytest.raises(ResultsError, match=r"expected 1 as images\[1\]\.index"):
        Sidecar.from_json(content | twice, "shard-000000.json")


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (2, r"expected schema 3, got 2, of an older camreport\. Run 'camreport run' again"),
        (4, r"expected schema 3, got 4, of a newer camreport\. Update camreport"),
        (None, r"expected 3 as schema in manifest\.json, got None"),
        (True, r"expected 3 as schema in manifest\.json, got True"),
    ],
)
def test_another_schema_gets_one_sentence(schema: object, sentence: str) -> None:
    with pytest.raises(ResultsError, match=sentence):
        check_schema({"schema": schema}, "manifest.json")


def test_a_key_of_maps_is_its_name_and_back() -> None:
    key = MapKey("grad_cam", "layer4/0:pre")
    assert str(key) == "grad_cam/layer4/0:pre"
    assert MapKey.parse(str(key)) == key
    assert MapKey.parse("logits") is None
