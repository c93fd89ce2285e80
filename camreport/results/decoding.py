"""Conversion of JSON to frozen dataclasses and back; a field's type defines its valid values.

A file may come from someone else, or be damaged. A decoded object is valid; content that cannot be
decoded is refused with one sentence that names the file and the field.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from camreport.errors import ResultsError
from camreport.messages import Message

MAX_TEXT = 4000
"""Largest number of characters of a value in a message."""

MAX_NESTED = 3
"""Largest depth of messages nested in messages."""

Check = Callable[[Any], None]
"""Raises ``UnfitError`` for a decoded value that is not valid; listed in ``Annotated``."""

_Decoder = Callable[[Any], Any]
_T = TypeVar("_T")


class UnfitError(Exception):
    """A value is not valid.

    Attributes:
        rule: the expected kind of value.
        value: the value found.
        path: names and indices that lead to the value, innermost first.
    """

    def __init__(self, rule: str, value: object, *path: str) -> None:
        super().__init__(rule)
        self.rule, self.value = rule, value
        self.path = [*reversed(path)]


class Entry:
    """Base of the frozen dataclasses that a results folder holds as JSON objects.

    A field with a default is left out of the JSON if it is None or False.
    """

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        content: dict[str, Any] = encode(self)
        return content

    @classmethod
    def from_json(cls, content: object, where: str) -> Self:
        """Return an instance from the JSON object that ``to_json`` returns.

        Args:
            content: as ``json.loads`` gives it.
            where: the file that it comes from, for the message.

        Raises:
            ResultsError: a field is missing or invalid; the message names the field.
        """
        return decode(cls, content, where)

    def check(self) -> None:
        """Raise ``UnfitError`` for values that the fields' types allow but that are not valid."""


def decode(kind: type[_T], content: object, where: str) -> _T:
    """Return an instance of a dataclass from a JSON object; unknown fields are ignored.

    The types of its fields may be ``bool``, ``int``, ``float``, ``str``, ``Literal``, ``Message``,
    other dataclasses, ``tuple``, ``Mapping`` by name, ``| None``, and ``Annotated`` with checks.

    Args:
        kind: the dataclass.
        content: as ``json.loads`` gives it.
        where: the file that it comes from, for the message.

    Raises:
        ResultsError: a field is missing or not of its type; the message names the field.
    """
    with refusing(where):
        return cast(_T, _decoder(kind)(content))  # type: ignore[arg-type]


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """Turn an ``UnfitError`` in the block into a ``ResultsError`` of one sentence.

    Raises:
        ResultsError: the message has the file ``where``, the field, the rule and the value.
    """
    try:
        yield
    except UnfitError as error:
        field = "".join(reversed(error.path)).removeprefix(".")
        shown = repr(error.value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise ResultsError(
            f"results: expected {error.rule} {f'as {field} ' if field else ''}in {where}, "
            f"got {shown}. The results are damaged: run 'camreport run' again."
        ) from error


def encode(value: object) -> Any:
    """Return a value as JSON content, ready for ``json.dumps``; the inverse of ``decode``."""
    if isinstance(value, Message):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        given = ((name, optional, getattr(value, name)) for name, optional in _names(type(value)))
        return {
            name: encode(own)
            for name, optional, own in given
            if not (optional and (own is None or own is False))
        }
    if isinstance(value, Mapping):
        return {name: encode(own) for name, own in value.items()}
    return [encode(own) for own in value] if isinstance(value, tuple) else value


@cache
def _names(kind: type) -> tuple[tuple[str, bool], ...]:
    """Return the names of a dataclass's fields, and whether each may be left out of the JSON."""
    is_entry = issubclass(kind, Entry)
    listed = fields(kind)
    return tuple((one.name, is_entry and one.default is not MISSING) for one in listed)


def shortened(text: str) -> str:
    """Return a text, cut to the largest length of a value in a message."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def whole(least: int = 0, most: int = 2**63 - 1) -> Check:
    """Return a check that a number is in ``least`` to ``most``."""

    def check(value: int) -> None:
        if not least <= value <= most:
            raise UnfitError(f"a whole number from {least} to {most}", value)

    return check


def filled(value: tuple[object, ...]) -> None:
    """Check that a list has entries."""
    if not value:
        raise UnfitError("a list with entries", [])


@cache
def _decoder(kind: Any) -> _Decoder:
    """Return the function that decodes JSON to a type."""
    origin, args = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is Annotated:
        return _checked(_decoder(args[0]), args[1:])
    if origin is Literal:
        return _one_of(args)
    if origin in (Union, types.UnionType):
        (inner,) = (arg for arg in args if arg is not types.NoneType)
        return _optional(_decoder(inner))
    if origin is tuple and args[-1] is Ellipsis:
        return _list(_decoder(args[0]))
    if origin is tuple:
        return _fixed_list(tuple(map(_decoder, args)))
    return _object(kind) if is_dataclass(kind) else _table(_decoder(args[1]))


def _within(part: str, decoder: _Decoder, content: object) -> Any:
    """Decode a part of an object or list; a refusal gets the part's name added to its path."""
    try:
        return decoder(content)
    except UnfitError as error:
        error.path.append(part)
        raise


def _object(kind: Any) -> _Decoder:
    hints = get_type_hints(kind, include_extras=True)
    known = [
        (field.name, _decoder(hints[field.name]), field.default is MISSING)
        for field in fields(kind)
    ]

    def decoder(content: Any) -> Any:
        if type(content) is not dict:
            raise UnfitError("an object", content)
        values = {}
        for name, inner, required in known:
            if name in content:
                values[name] = _within(f".{name}", inner, content[name])
            elif required:
                raise UnfitError(f"an object with {name!r}", content)
        value = kind(**values)
        if isinstance(value, Entry):
            value.check()
        return value

    return decoder


def _checked(inner: _Decoder, checks: tuple[Check, ...]) -> _Decoder:
    def decoder(content: Any) -> Any:
        value = inner(content)
        for check in checks:
            check(value)
        return value

    return decoder


def _optional(inner: _Decoder) -> _Decoder:
    return lambda content: None if content is None else inner(content)


def _one_of(choices: tuple[object, ...]) -> _Decoder:
    def decoder(content: Any) -> Any:
        for choice in choices:
            if type(content) is type(choice) and content == choice:
                return choice
        raise UnfitError(f"one of {', '.join(map(str, choices))}", content)

    return decoder


def _list(inner: _Decoder) -> _Decoder:
    def decoder(content: Any) -> Any:
        if type(content) is not list:
            raise UnfitError("a list", content)
        return tuple(_within(f"[{i}]", inner, own) for i, own in enumerate(content))

    return decoder


def _fixed_list(inner: tuple[_Decoder, ...]) -> _Decoder:
    def decoder(content: Any) -> Any:
        if type(content) is not list or len(content) != len(inner):
            raise UnfitError(f"a list of {len(inner)} entries", content)
        both = zip(inner, content, strict=True)
        return tuple(_within(f"[{i}]", of, own) for i, (of, own) in enumerate(both))

    return decoder


def _table(inner: _Decoder) -> _Decoder:
    def decoder(content: Any) -> Any:
        if type(content) is not dict:
            raise UnfitError("an object", content)
        return {_text(name): _within(f".{name}", inner, own) for name, own in content.items()}

    return decoder


def _bool(content: Any) -> bool:
    if type(content) is not bool:
        raise UnfitError("true or false", content)
    return content


def _int(content: Any) -> int:
    if type(content) is not int or abs(content) >= 2**63:
        raise UnfitError("a whole number", content)
    return content


def _float(content: Any) -> float:
    if type(content) not in (int, float) or not abs(content) < 1e300:
        raise UnfitError("a number", content)
    return float(content)


def _text(content: Any) -> str:
    if type(content) is not str:
        raise UnfitError("a text", content)
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UnfitError("a text of whole characters", content) from error
    return content


def _message(content: Any, nested: int = 0) -> Message:
    """Decode a message that has a text in every language."""
    if type(content) is not dict or nested == MAX_NESTED:
        raise UnfitError("a message", content)
    values = content.get("values", {})
    if type(values) is not dict:
        raise UnfitError("an object", values, ".values")
    for name, value in values.items():
        field = f".values.{name}"
        if type(value) is dict:
            _within(field, lambda inner: _message(inner, nested + 1), value)
        elif type(value) is str:
            _within(field, _phrase, value)
        else:
            _within(field, _float, value)
    try:
        return Message.from_json(content)
    except ValueError as error:
        raise UnfitError("a message that this version knows", content) from error


def _phrase(content: Any) -> str:
    if len(_text(content)) > MAX_TEXT:
        raise UnfitError(f"up to {MAX_TEXT} characters", content)
    return str(content)


_PLAIN: dict[Any, _Decoder] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _text,
    Message: _message,
    Any: lambda content: content,
}
