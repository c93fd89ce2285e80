"""An option of a run: how it is written, read and checked, and which results it changes."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

_Class = TypeVar("_Class")

Affects = Literal["maps", "records", "evidence", "report"]
"""Parts of a run's results: the maps; what is recorded of each image; the evidence for the maps;
how the report shows it."""

GROUPS = ("Input", "Model", "What", "Evidence", "Drawing", "Output", "Machines", "Other")
"""Headings of ``--help``, in their order."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """How an option is written, read and checked, and what it changes.

    Attributes:
        default: its value where nobody gives one.
        group: one of ``GROUPS``.
        help: one sentence for ``--help`` and the README.
        affects: the first part of the results that a change of the option changes; None where it
            only allows something.
        decides: what the option settles together with others, ``model`` for instance; a
            fingerprint may hold that instead of the options.
        flag: the word on the command line that the value follows.
        switches: words on the command line that stand for a value by themselves.
        metavar: what follows the flag, in ``--help``.
        parse: reads the value from a text; raises ``ValueError`` or a ``CamReportError``.
        write: writes it as ``parse`` reads it back; None where it cannot be written.
        check: raises a ``CamReportError`` for a value that makes no sense.
        shown_default: the default in words, where the value alone does not explain it.
        permits: whether a value allows what could do harm; a file found in the
            current folder may not set it.
        recorded: whether the recorded command has it.
    """

    default: Any
    group: str
    help: str
    affects: Affects | None
    decides: str = ""
    flag: str = ""
    switches: Mapping[str, object] = field(default_factory=dict)
    metavar: str = ""
    parse: Callable[[str], Any] = str
    write: Callable[[Any], str | None] = str
    check: Callable[[Any], object] = lambda value: None
    shown_default: str = ""
    permits: Callable[[Any], bool] = lambda value: False
    recorded: bool = True

    def words(self, value: object) -> list[str]:
        """Return a value as words of the command line; nothing where it cannot be written."""
        written = self.written(value)
        if self.switches:
            return [switch for switch, meant in self.switches.items() if meant == value]
        return [] if written is None else [self.flag, str(written)]

    def written(self, value: object) -> object:
        """Return a value as text; a switch's value, or None, as it is."""
        return value if value is None or self.switches else self.write(value)

    @property
    def default_words(self) -> str:
        """The default as ``--help`` and the README show it; empty where there is none."""
        silent = self.default is None or self.default is False or self.default == ()
        return self.shown_default or ("" if silent else str(self.written(self.default)))


def option(default: Any, **attributes: Any) -> Any:
    """Return a dataclass field that is an option, with the attributes of ``Option``.

    An option whose default is False is a switch.
    """
    return field(default=default, metadata={"option": Option(default=default, **attributes)})


def options_of(settings: type) -> dict[str, Option]:
    """Return the options of a class of settings by their names, in their order."""
    found: dict[str, Option] = {}
    for each in fields(settings):
        if "option" in each.metadata:
            option: Option = each.metadata["option"]
            flag = option.flag or "--" + each.name.replace("_", "-")
            switches = {flag: True} if option.default is False else option.switches
            found[each.name] = replace(option, flag=flag, switches=switches)
    return found


def documented(settings: type[_Class]) -> type[_Class]:
    """Return a class of settings with its options' meanings in its docstring."""
    meanings = [f"{name}: {option.help}" for name, option in options_of(settings).items()]
    text = inspect.cleandoc(settings.__doc__ or "")
    settings.__doc__ = "\n    ".join([f"{text}\n\nOptions:", *meanings])
    return settings
