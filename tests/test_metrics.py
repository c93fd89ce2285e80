"""The table of metrics: what it says, how names are found, and what a new metric takes."""

import ast
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import metric_oracles as oracles
from helpers.checkout import ROOT
from helpers.command import Command

from camreport.errors import MetricError
from camreport.messages.message import LANGUAGES, sentences
from camreport.metrics import METRICS, Metric, Number, registry, resolve_metrics
from camreport.metrics.values import Values

QUESTIONS = ("contrast", "effect", "order", "grid", "learned", "stability", "extent", "regions")
BY_NAME = ("average_drop", "road")

every_metric = pytest.mark.parametrize("key", METRICS)


# What stands in the table


def test_the_table_holds_the_questions_in_their_order_and_what_is_asked_by_name() -> None:
    assert tuple(METRICS) == QUESTIONS + BY_NAME
    levels = {key: one.level for key, one in METRICS.items()}
    basic = [key for key, level in levels.items() if level == "basic"]
    assert basic == ["contrast", "learned", "extent", "regions"]
    assert tuple(key for key, level in levels.items() if level == "name") == BY_NAME


@every_metric
def test_every_metric_is_described_for_readers(key: str) -> None:
    metric = METRICS[key]
    for language in LANGUAGES:
        words = {
            part: getattr(metric, part).worded(language)
            for part in ("name", "question", "formula", "range", "cost", "caution")
        }
        assert words["question"].endswith("?" if language == "en" else "？")
        for part in ("range", "caution"):
            assert words[part].endswith("." if language == "en" else "。")
        assert all(words.values())
    assert "https://" in metric.source


@every_metric
def test_every_metric_is_computed_by_a_function_with_shapes_and_source(key: str) -> None:
    documentation = METRICS[key].compute.__doc__ or ""
    for heading in ("Args:", "Source:", "https://", "``("):
        assert heading in documentation


@every_metric
def test_every_number_begins_with_its_metric_and_has_a_range_that_holds_its_chance(
    key: str,
) -> None:
    numbers = METRICS[key].numbers
    assert numbers[0].key == key
    assert len({number.key for number in numbers}) == len(numbers)
    for number in numbers[1:]:
        assert number.key.startswith(f"{key}.")
    for number in numbers:
        assert math.isfinite(number.low)
        assert number.low < number.high
        if number.chance is not None:
            assert number.low <= number.chance <= number.high


@every_metric
def test_every_further_number_has_a_name_of_its_own(key: str) -> None:
    names = [sentences()[f"evidence.number.{number.key}"] for number in METRICS[key].numbers[1:]]
    for language in LANGUAGES:
        assert len({name[language] for name in names}) == len(names)


@every_metric
def test_what_takes_no_pass_is_asked_of_every_image(key: str) -> None:
    metric = METRICS[key]
    expected = {"maps": "all", "regions": "all", "collages": "collages"}
    assert metric.coverage == expected.get(metric.needs, "sample")


def test_no_metric_has_texts_that_it_does_not_show() -> None:
    keys = {code.split(".")[1] for code in sentences() if code.startswith("metrics.")}
    assert keys == METRICS.keys()


def test_the_table_is_read_without_torch() -> None:
    code = "import sys; from camreport.metrics import METRICS; METRICS['contrast'].question;"
    code += "sys.exit('torch' in sys.modules or len(METRICS) < 8)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# One function, one registration, one oracle


def test_a_metric_is_a_function_that_is_registered_where_it_stands() -> None:
    decorated = {
        node.name
        for path in (ROOT / "camreport").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for call in node.decorator_list
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "metric"
    }
    assert decorated == METRICS.keys()
    for key, metric in METRICS.items():
        assert metric.compute.__name__ == key
        assert metric.compute.__module__.startswith("camreport.metrics.")


def test_no_oracle_uses_what_it_is_the_oracle_of() -> None:
    source = Path(oracles.__file__).read_text(encoding="utf-8")
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not [name for name in imported if name and name.startswith("camreport")]


def test_a_metric_sees_arrays_and_never_a_model() -> None:
    for path in sorted((ROOT / "camreport/metrics").glob("*.py")):
        names = {
            name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
        }
        own = {name.split(".")[1] for name in names if name and name.startswith("camreport.")}
        assert own <= {"metrics", "messages", "errors", "settings"}, path.name
        assert "torch" not in names, path.name


TEXTS = {
    "name": {"en": "Peak", "zh": "峰值"},
    "question": {"en": "How high is it?", "zh": "有多高？"},
    "formula": dict.fromkeys(LANGUAGES, "max R"),
    "range": {"en": "Any number.", "zh": "任何数。"},
    "cost": {"en": "no pass", "zh": "不需要额外计算"},
    "caution": {"en": "It is made up.", "zh": "这是虚构的。"},
    "source": dict.fromkeys(LANGUAGES, "nobody, https://example.org"),
}


def highest_peak(maps: np.ndarray) -> Values:
    """Max R: a metric of nobody."""
    return Values.of(maps.max((-2, -1)))


@pytest.fixture
def new_metric(monkeypatch: pytest.MonkeyPatch) -> Metric:
    """A metric that is registered for one test: its function and its texts."""
    monkeypatch.setitem(METRICS, "highest_peak", METRICS["extent"])  # taken out again afterwards
    for part, words in TEXTS.items():
        monkeypatch.setitem(sentences(), f"metrics.highest_peak.{part}", words)
    register = registry.metric("maps", "name", Number("highest_peak", -1, 1), aliases=("summit",))
    assert register(highest_peak) is highest_peak
    return METRICS["highest_peak"]


def test_a_new_metric_is_found_and_listed(new_metric: Metric, command: Command) -> None:
    for name in ("highest_peak", "Highest-Peak", "peak", "SUMMIT"):
        assert resolve_metrics(name) == [new_metric]
    assert new_metric in resolve_metrics("all")
    assert new_metric not in resolve_metrics("full")
    assert [line for line in command("metrics").out.splitlines() if line[0] != " "][-1] == (
        "highest_peak"
    )


# How names are found


@every_metric
def test_a_metric_is_found_by_key_and_name_in_any_spelling(key: str) -> None:
    metric = METRICS[key]
    for name in (key, str(metric.name), *metric.aliases):
        for spelling in (name, name.upper(), f" {name.replace('_', '-')} ", name.replace(" ", "")):
            assert resolve_metrics([spelling]) == [metric]


def test_a_level_stands_for_its_metrics_and_those_of_the_levels_below() -> None:
    levels = {word: [one.key for one in resolve_metrics(word)] for word in ("basic", "full", "all")}
    assert levels["full"] == [*QUESTIONS]
    assert levels["all"] == [*METRICS]
    assert set(levels["basic"]) == {"contrast", "learned", "extent", "regions"}


@pytest.mark.parametrize(
    "names", ["extent, contrast,, Extent", "Extent，contrast", ["extent", "contrast"]]
)
def test_several_names_are_taken_without_repeats_in_the_order_of_the_table(names) -> None:
    assert [one.key for one in resolve_metrics(names)] == ["contrast", "extent"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("contarst", "got 'contarst'. Did you mean 'contrast'?"),
        ("stabilty", "Did you mean 'stability'?"),
        ("ful", "Did you mean 'full'?"),
        ("xyzzy", "got 'xyzzy'. There are basic, full, all, contrast, "),
        ("", "at least one of contrast, .*got none"),
        ([], "got none"),
        (7, "a level or a list of names, got 7"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, said: str) -> None:
    with pytest.raises(MetricError, match=rf"metrics: expected .*{said}".replace("?", r"\?")):
        resolve_metrics(name)


# The command


def test_metrics_lists_what_the_table_says_of_every_metric(command: Command) -> None:
    finished = command("metrics")
    assert (finished.code, finished.err) == (0, "")
    assert max(map(len, finished.out.splitlines())) <= 100
    names = ("question", "range", "cost", "source")
    assert finished.out.split() == [
        word
        for one in METRICS.values()
        for text in (
            one.key,
            *(f"{name} {getattr(one, name)}" for name in names),
        )
        for word in text.split()
    ]
    assert all(line[:2] == "  " or line in METRICS for line in finished.out.splitlines())
