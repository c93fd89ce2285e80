"""Parity: raw maps equal those of grad-cam, torchcam, captum and of the papers' formulas."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.peers import COMPARISONS, Case, Comparison, difference, make_case, table

from camreport.methods import METHODS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "parity.md"


@pytest.mark.parametrize(
    ("comparison", "net"),
    [
        pytest.param(one, net, id=f"{one.key}-{one.peer}-{net}")
        for one in COMPARISONS
        for net in one.nets
    ],
)
def test_raw_maps_equal_those_of_a_peer(
    comparison: Comparison, net: str, record_property: Callable[[str, object], None]
):
    case: Case = make_case(net, comparison.loudness)
    layers = comparison.layers_of(case)
    theirs = comparison.read(comparison.name, layers, case)
    for layer, reference in zip(layers, theirs, strict=True):
        ours = comparison.ours(case, comparison.key, layer)
        assert ours.shape == reference.shape
        if comparison.up_to_sign:
            ours = ours * (ours * reference).sum((-2, -1), keepdim=True).sign()
        found = difference(ours, reference)
        record_property("deviation", (comparison.key, comparison.peer, found))
        assert found <= comparison.gate


def test_comparisons_are_of_methods_and_each_is_made_once():
    pairs = [(comparison.key, comparison.peer) for comparison in COMPARISONS]
    assert len(pairs) == len(set(pairs))
    assert {key for key, _ in pairs} <= set(METHODS)


def test_document_lists_what_is_compared_and_within_which_gate():
    def without_digits(lines: list[str]) -> list[str]:
        return [line.rpartition(" | ")[0] for line in lines if line.startswith("| `")]

    listed = DOCUMENT.read_text(encoding="utf-8").splitlines()
    assert without_digits(listed) == without_digits(table({}))
    for line in filter(lambda line: line.startswith("| `"), listed):
        gate, worst = re.search(r"\| (\S+) \| (\S+) \|$", line).groups()
        assert float(worst) <= float(gate)
