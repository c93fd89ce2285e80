"""Accuracy from the records of images, and the order of class names that would fit."""

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import INPUTS
from helpers.command import Command
from helpers.reports import embedded

from camreport.results.accuracy import accuracy, better_order, order_warning
from camreport.results.schema import ImageEntry, Prediction


def entry(label: int | None, *predicted: int) -> ImageEntry:
    """Return an image with this true class and these predicted ones."""
    return ImageEntry(
        index=0,
        file="a.png",
        sha256="",
        width=1,
        height=1,
        status="ok",
        label=label,
        top=tuple(Prediction(index=i, name=f"{i}", probability=0.5) for i in predicted),
    )


def records(*pairs: tuple[int | None, int]) -> list[ImageEntry]:
    """Return images with these true and predicted classes."""
    return [entry(label, predicted) for label, predicted in pairs]


def of_matrix(matrix: Sequence[Sequence[int]]) -> list[ImageEntry]:
    """Return records with as many images as a matrix says for each true and predicted class."""
    return records(
        *(
            (label, predicted)
            for label, row in enumerate(matrix)
            for predicted, count in enumerate(row)
            for _ in range(count)
        )
    )


def test_accuracy_counts_right_ones_overall_and_by_class() -> None:
    found = accuracy(records((0, 0), (0, 1), (2, 2), (None, 1), (2, 2)))
    assert found is not None
    assert (found.right, found.total) == (3, 4)
    assert found.by_class == {0: (1, 2), 2: (2, 2)}


def test_accuracy_is_none_where_no_image_has_a_label() -> None:
    assert accuracy([*records((None, 0)), entry(1)]) is None


def test_accuracy_of_words_for_several_classes_has_no_lines_per_class() -> None:
    counted = accuracy([replace(entry(282, 282), labels=(281, 282))])
    assert counted is not None
    assert (counted.right, counted.total, counted.by_class) == (1, 1, {})


def test_two_swapped_names_are_found() -> None:
    found = better_order(of_matrix([[1, 3], [3, 1]]), 2)
    assert found is not None
    assert (found.order, found.right) == ((1, 0), 6)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_order_of_four_names_is_found(order: tuple[int, ...]) -> None:
    # index p shows what is really class order[p], and one image in ten is wrong
    matrix = np.zeros((4, 4), int)
    for index, name in enumerate(order):
        matrix[name, index] = 9
        matrix[name, (index + 1) % 4] += 1
    found = better_order(of_matrix(matrix.tolist()), 4)
    assert (found.order if found else tuple(range(4))) == order
    assert found is None or found.right == 36


def test_order_agrees_with_the_best_assignment_on_noisy_matrices() -> None:
    from scipy.optimize import linear_sum_assignment

    generator = np.random.default_rng(0)
    for _ in range(50):
        order = generator.permutation(6)
        matrix = generator.integers(0, 3, (6, 6))
        matrix[order, np.arange(6)] += 20
        names, indices = linear_sum_assignment(-matrix)
        best = tuple(int(name) for name in names[np.argsort(indices)])
        found = better_order(of_matrix(matrix.tolist()), 6)
        assert (found.order if found else tuple(range(6))) == best


@pytest.mark.parametrize(
    "matrix",
    [
        [[4, 0], [0, 4]],
        [[22, 28], [27, 23]],  # no better than chance: either order does as well
        [[0, 1], [1, 0]],  # two images prove nothing
        [[3, 1], [3, 1]],  # always the same answer
        [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]],
    ],
)
def test_no_order_is_offered_where_none_is_clearly_better(matrix: list[list[int]]) -> None:
    assert better_order(of_matrix(matrix), len(matrix)) is None


def test_swapped_names_are_found_among_many_classes() -> None:
    pairs = [(label, label) for label in range(1000) for _ in range(3)]
    swap = {17: 803, 803: 17}
    found = better_order(records(*((label, swap.get(got, got)) for label, got in pairs)), 1000)
    assert found is not None
    assert {index: name for index, name in enumerate(found.order) if index != name} == swap
    assert found.right == 3000


def test_warning_of_many_classes_lists_those_that_are_renamed() -> None:
    names = [f"bird {index}" for index in range(20)]
    said = order_warning(records(*[(3, 7)] * 5, *[(7, 3)] * 5, (1, 1)), names)
    assert str(said) == (
        "1 of 11 predictions agree with the true classes, but 11 would with these names by index: "
        "3 bird 7,7 bird 3"
    )


@pytest.fixture
def folders(command: Command) -> None:
    """Two photographs of a cat in ``in/cat`` and two of a dog in ``in/dog``."""
    for name in ("cat", "dog"):
        Path("in", name).mkdir(parents=True)
        for number in (1, 2):
            shutil.copy(INPUTS / f"{name}.jpg", Path("in", name, f"{number}.jpg"))


QUICK = ("--layers", "12", "--methods", "grad_cam", "--labels", "folder")


@pytest.mark.usefixtures("folders")
def test_run_prints_the_accuracy_and_warns_of_swapped_class_names(command: Command) -> None:
    finished = command("run", "in", "-o", "out", *QUICK, "--class-names", "dog,cat")
    assert finished.code == 0
    lines = finished.out.splitlines()
    at = lines.index("accuracy: 0 of 4 right (0.0%)")
    assert sorted(lines[at + 1 : at + 3]) == ["  cat: 0 of 2 right", "  dog: 0 of 2 right"]
    said = (
        "0 of 4 predictions agree with the true classes, but 4 would with the class names in the "
        "order cat,dog"
    )
    assert f"warning: {said}. Are the names" in finished.err
    prose = embedded(Path("out"), "report")["prose"]
    assert prose["en"]["warning"] == said
    assert "4 个预测中只有 0 个与真实类别一致；若类别名称的顺序为 cat,dog" in prose["zh"]["warning"]
    facts = {name: value for name, value in prose["en"]["facts"]}
    assert facts["Predictions"] == "0 of 4 are right (dog: 0 of 2, cat: 0 of 2)"


@pytest.mark.usefixtures("folders")
def test_run_warns_of_nothing_where_the_class_names_are_right(command: Command) -> None:
    finished = command("run", "in", "-o", "out", *QUICK)
    assert "accuracy: 4 of 4 right (100.0%)" in finished.out.splitlines()
    assert finished.err == ""
    assert embedded(Path("out"), "report")["prose"]["en"]["warning"] == ""


def test_run_says_nothing_of_accuracy_without_labels(command: Command) -> None:
    assert "accuracy" not in command("run", str(INPUTS), "-o", "out", *QUICK[:4]).out
