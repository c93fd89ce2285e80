"""JSON to frozen dataclasses and back: what a field may hold follows from its type.

A file may come from someone else, or be damaged. What has been decoded can be relied on; what
cannot be decoded is refused in one sentence that names the file and the field.
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
"""Most characters of a value in a message."""

MAX_NESTED = 3
"""Most messages within each other."""

Check = Callable[[Any], None]
"""Raises ``UnfitError`` for a decoded value that may not stand there; listed in ``Annotated``."""

_Decoder = Callable[[Any], Any]
_T = TypeVar("_T")


class UnfitError(Exception):
    """A value that is not as it must be.

    Attributes:
        rule: what was expected.
        value: what was there.
        place: names and indices that lead to it, innermost first.
    """

    def __init__(self, rule: str, value: object, *place: str) -> None:
        super().__init__(rule)
        self.rule, self.value = rule, value
        self.place = [*reversed(place)]


class Entry:
    """Base of the frozen dataclasses that a results folder holds as JSON objects.

    A field with a default is left out of the JSON where it is None or False.
    """

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        content: dict[str, Any] = encode(self)
        return content

    @classmethod
    def from_json(cls, content: object, where: str) -> Self:
        """Return what ``to_json`` has written.

        Args:
            content: as ``json.loads`` gives it.
            where: the file that it comes from, for the message.

        Raises:
            ResultsError: a field is missing or not as it must be; the message names it.
        """
        return decode(cls, content, where)

    def check(self) -> None:
        """Refuse what the fields' types allow, by ``UnfitError``."""


def decode(kind: type[_T], content: object, where: str) -> _T:
    """Return an instance of a dataclass from a JSON object; unknown fields are passed over.

    The types of its fields may be ``bool``, ``int``, ``float``, ``str``, ``Literal``, ``Message``,
    other dataclasses, ``tuple``, ``Mapping`` by name, ``| None``, and ``Annotated`` with checks.

    Args:
        kind: the dataclass.
        content: as ``json.loads`` gives it.
        where: the file that it comes from, for the message.

    Raises:
        ResultsError: a field is missing or not as its type says; the message names it.
    """
    with refusing(where):
        return cast(_T, _decoder(kind)(content))  # type: ignore[arg-type]


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """Turn an ``UnfitError`` in the block into one sentence.

    Raises:
        ResultsError: it names the file ``where``, the field, what was expected and what was there.
    """
    try:
        yield
    except UnfitError as error:
        place = "".join(reversed(error.place)).removeprefix(".")
        shown = repr(error.value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise ResultsError(
            f"results: expected {error.rule} {f'as {place} ' if place else ''}in {where}, "
            f"got {shown}. The results are damaged: run 'camreport run' again."
        ) from error


def encode(value: object) -> Any:
    """Return what ``decode`` takes, ready for ``json.dumps``."""
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
    """Return the names of a dataclass's fields, and which may be left out of its JSON."""
    is_entry = issubclass(kind, Entry)
    listed = fields(kind)
    return tuple((one.name, is_entry and one.default is not MISSING) for one in listed)


def shortened(text: str) -> str:
    """Return a text as long as a value of a message may be."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def whole(least: int = 0, most: int = 2**63 - 1) -> Check:
    """Return the check of a number from ``least`` to ``most``."""

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


def _within(place: str, decoder: _Decoder, content: object) -> Any:
    """Decode what stands at a place, and name the place if it is refused."""
    try:
        return decoder(content)
    except UnfitError as error:
        error.place.append(place)
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
    """Decode a message that every language can word."""
    if type(content) is not dict or nested == MAX_NESTED:
        raise UnfitError("a message", content)
    values = content.get("values", {})
    if type(values) is not dict:
        raise UnfitError("an object", values, ".values")
    for name, value in values.items():
        place = f".values.{name}"
        if type(value) is dict:
            _within(place, lambda inner: _message(inner, nested + 1), value)
        elif type(value) is str:
            _within(place, _phrase, value)
        else:
            _within(place, _float, value)
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
