"""Messages: every code is worded in every language, and known and used in the code."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
from helpers.checkout import ROOT
from helpers.chinese import LATIN, TECHNICAL

from camreport.messages import Message, message
from camreport.messages.message import LANGUAGES, sentences
from camreport.methods import METHODS

TABLES = sorted((ROOT / "camreport/messages").glob("*.toml"))
NAMES = {word for method in METHODS.values() for word in LATIN.findall(method.name)}
every_code = pytest.mark.parametrize("code", sentences())


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


# The tables


@every_code
def test_every_code_is_worded_in_every_language_with_the_same_placeholders(code: str) -> None:
    words = sentences()[code]
    assert words.keys() == set(LANGUAGES)
    assert all(text.strip() == text != "" for text in words.values())
    assert placeholders(words["zh"]) == placeholders(words["en"])


@every_code
def test_no_sentence_is_a_code(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(\.[a-z0-9_]+)+", code)


@every_code
def test_every_code_is_translated(code: str) -> None:
    english, chinese = sentences()[code]["en"], sentences()[code]["zh"]
    if english == chinese:
        words = set(LATIN.findall(re.sub(r"\{\w+\}", "", english)))
        assert words <= TECHNICAL or code.endswith((".formula", ".source"))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_every_code_begins_with_the_name_of_its_table(table: Path) -> None:
    keys = tomllib.loads(table.read_text(encoding="utf-8"))
    assert {key.partition(".")[0] for key in keys} == {table.stem}


# Codes in the code


SOURCES = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "camreport").rglob("*.py"))]


def calls() -> Iterator[ast.Call]:
    """Yield every call of ``message`` in the package."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source)):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if named and node.func.id == "message" and node.args:
                yield node


def exact(code: ast.expr) -> set[str]:
    """Return the codes that an expression spells out."""
    if isinstance(code, ast.IfExp):
        return exact(code.body) | exact(code.orelse)
    return {str(code.value)} if isinstance(code, ast.Constant) else set()


def made(code: ast.expr) -> set[str]:
    """Return patterns of the codes that an expression puts together, a group for each part."""
    if isinstance(code, ast.IfExp):
        return made(code.body) | made(code.orelse)
    if not isinstance(code, ast.JoinedStr):
        return set()
    parts = (re.escape(p.value) if isinstance(p, ast.Constant) else r"(\w+)" for p in code.values)  # type: ignore[arg-type]
    return {"".join(parts)}


def test_every_code_in_the_code_is_in_a_table_and_gets_its_values() -> None:
    for call in calls():
        given = {keyword.arg for keyword in call.keywords}
        for code in exact(call.args[0]):
            assert code in sentences()
            wanted = placeholders(sentences()[code]["en"])
            assert None in given or wanted == given, f"{code}: {wanted} from {given}"
        for pattern in made(call.args[0]):
            assert any(re.fullmatch(pattern, code) for code in sentences()), pattern


def test_every_code_of_a_table_is_used() -> None:
    words = {word for source in SOURCES for word in re.findall(r"\w+", source)}
    patterns = {pattern for call in calls() for pattern in made(call.args[0])}

    def used(code: str) -> bool:
        """Say whether code spells it out, or puts it together from words that it holds."""
        if any(f'"{code}"' in source for source in SOURCES):
            return True
        matches = (re.fullmatch(pattern, code) for pattern in patterns)
        return any(found and words.issuperset(found.groups()) for found in matches)

    assert [code for code in sentences() if not used(code)] == []


def test_no_method_has_texts_that_it_does_not_show() -> None:
    keys = {code.split(".")[1] for code in sentences() if code.startswith("methods.")}
    assert keys - METHODS.keys() == {"layers", "needs", "passes"}


# A message


@pytest.fixture
def greeting(monkeypatch: pytest.MonkeyPatch) -> Message:
    """A message with a number, a word and a message within."""
    words = {"en": "{count:,} of {what}: {why}", "zh": "{what} 中的 {count:,} 个：{why}"}
    monkeypatch.setitem(sentences(), "tests.greeting", words)
    monkeypatch.setitem(sentences(), "tests.why", {"en": "empty", "zh": "空"})
    return message("tests.greeting", count=1234, what="a.png", why=message("tests.why"))


def test_a_message_is_worded_with_its_values_and_the_messages_within(greeting: Message) -> None:
    assert str(greeting) == greeting.worded("en") == "1,234 of a.png: empty"
    assert greeting.worded("zh") == "a.png 中的 1,234 个：空"


def test_a_message_comes_back_from_json(greeting: Message) -> None:
    kept = greeting.to_json()
    assert kept["values"]["why"] == {"code": "tests.why"}
    assert Message.from_json(kept) == greeting


def test_a_value_may_be_called_code() -> None:
    assert message("tests.any", code="x").values == (("code", "x"),)


@pytest.mark.usefixtures("greeting")
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"code": 3},
        {"code": "tests.unknown"},
        {"code": "tests.greeting"},
        {"code": "tests.greeting", "values": {"count": 1, "what": "a.png"}},
        {"code": "tests.greeting", "values": {"count": "x", "what": "a.png", "why": "b"}},
        {"code": "tests.greeting", "values": [1, 2]},
        {"code": "tests.greeting", "values": {"count": 1, "what": "a", "why": {"code": "no"}}},
    ],
    ids=str,
)
def test_what_is_no_message_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Message.from_json(content)
