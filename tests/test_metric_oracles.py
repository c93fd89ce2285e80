"""Every metric does to drawn arrays what its oracle does: one row of ``CASES`` for each."""

from collections.abc import Callable

import numpy as np
import pytest
from helpers import metric_oracles as oracles

from camreport.metrics import METRICS
from camreport.metrics.values import Values

Arguments = tuple[object, ...]


def drawn(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Return raw maps of both signs."""
    return random.normal(size=shape).astype(np.float32)


def curves(random: np.random.Generator, steps: int) -> Values:
    return Values.of(random.random((3, 2, steps)))


CASES: dict[str, Callable[[np.random.Generator], Arguments]] = {
    "contrast": lambda r: (drawn(r, 3, 2, 6, 7), np.array([[1, 0]] * 3)),
    "effect": lambda r: (r.normal(size=(4, 2, 128)), r.normal(size=(4, 1, 128))),
    "order": lambda r: (curves(r, 6), curves(r, 6), np.array([0, 3, 6, 9, 12, 14])),
    "grid": lambda r: (
        drawn(r, 3, 2, 6, 6),
        np.array([[[0, 1], [1, 0]], [[1, 0], [0, 1]], [[1, 1], [0, 2]]]),
        (24, 24),
    ),
    "learned": lambda r: (drawn(r, 3, 2, 5, 5), drawn(r, 3, 3, 2, 5, 5), drawn(r, 3, 1, 5, 5)),
    "stability": lambda r: (
        drawn(r, 3, 2, 5, 5),
        drawn(r, 4, 3, 2, 5, 5),
        np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [0, 0, 1]], dtype=bool),
        drawn(r, 3, 2, 5, 5),
    ),
    "extent": lambda r: (drawn(r, 3, 2, 9, 5),),
    "regions": lambda r: (drawn(r, 4, 7, 7), r.random((28, 28)) < 0.2),
    "average_drop": lambda r: (r.random((3, 1)), Values.of(r.random((3, 2))), r.random((3, 2))),
    "road": lambda r: (curves(r, 9), curves(r, 9)),
}


def test_every_metric_has_a_case_and_an_oracle() -> None:
    assert CASES.keys() == METRICS.keys()
    assert [key for key in METRICS if not callable(getattr(oracles, key, None))] == []


@pytest.mark.parametrize("key", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_computes_what_its_oracle_does(key: str, seed: int) -> None:
    arguments = CASES[key](np.random.default_rng(seed))
    found = METRICS[key].compute(*arguments)
    numbers = {key: found} if isinstance(found, Values) else found
    assert [*numbers] == [number.key for number in METRICS[key].numbers]
    expected = getattr(oracles, key)(*arguments)
    assert numbers.keys() == expected.keys()
    for name, values in numbers.items():
        np.testing.assert_allclose(values.numbers, expected[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("key", METRICS)
def test_every_number_lies_in_the_range_that_the_table_states(key: str) -> None:
    for seed in range(20):
        found = METRICS[key].compute(*CASES[key](np.random.default_rng(seed)))
        numbers = {key: found} if isinstance(found, Values) else found
        for number in METRICS[key].numbers:
            own = numbers[number.key].numbers
            own = own[np.isfinite(own)]
            assert own.size
            assert (own >= number.low).all()
            assert (own <= number.high).all()


@pytest.mark.parametrize("key", METRICS)
def test_a_metric_changes_nothing_that_it_is_given(key: str) -> None:
    arguments, before = (CASES[key](np.random.default_rng(0)) for _ in range(2))
    METRICS[key].compute(*arguments)
    for own, untouched in zip(arguments, before, strict=True):
        if isinstance(own, Values):
            own, untouched = own.numbers, untouched.numbers
        np.testing.assert_array_equal(own, untouched)
