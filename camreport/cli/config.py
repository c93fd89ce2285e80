"""Options from a file: ``--config FILE``, or ``[tool.camreport]`` in ``./pyproject.toml``."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from camreport.errors import CamReportError, suggestion
from camreport.settings import Option, Settings, join_list, options_of

PROJECT = Path("pyproject.toml")
"""The file of the present folder whose table is read where no file is named."""

TABLE = ("tool", "camreport")
"""Where the options stand in a file that holds the tables of several tools."""


def read_config(path: Path | None, settings: type = Settings) -> dict[str, Any]:
    """Return the values that a file gives to options, by the options' names.

    A value is written as on the command line or in TOML's own way: ``gamma = 1.5``,
    ``layers = ["0", "3"]``, ``figures = true``.

    Args:
        path: a TOML file; None for the present folder's ``pyproject.toml``, if there is one.
        settings: ``Settings`` or a class derived from it.

    Raises:
        CamReportError: the file cannot be read, or a key or a value in it is wrong.
    """
    file, found = path or PROJECT, dict[str, Any]()
    for key, value in _table(file, is_named=path is not None).items():
        name, meant = _meant(key, value, file, settings)
        option = options_of(settings)[name]
        try:
            found[name] = _parsed(option, meant)
            option.check(found[name])
        except (ValueError, CamReportError) as error:
            reason = str(error).removeprefix(f"{name}: ")
            raise CamReportError(f"config: {str(file)!r}: {key}: {reason}") from error
        if path is None and option.permits(found[name]):
            raise CamReportError(
                f"config: expected {key} on the command line or in a file that you name, got "
                f"{_shown(value)} in {str(file)!r}: it can run code or replace files. If you trust "
                f"the file, add --config {file}"
            )
    return found


def _table(file: Path, is_named: bool) -> Mapping[str, object]:
    """Return the table of options in a file; empty where a file that nobody named has none."""
    if not (is_named or os.path.isfile(file)):
        return {}
    import tomllib  # which only those need who have such a file

    try:
        text = file.read_text("utf-8")
        if not (is_named or TABLE[-1] in text):
            return {}
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CamReportError(
            f"config: expected a TOML file in UTF-8, got {str(file)!r} ({reason})."
        ) from error
    if is_named and TABLE[0] not in content:
        return content
    tools = content.get(TABLE[0])
    table = tools.get(TABLE[1], {}) if isinstance(tools, dict) else {}
    return table if isinstance(table, dict) else {}


def _meant(key: str, value: object, file: Path, settings: type) -> tuple[str, object]:
    """Return which option a key names, and the value it gives to it.

    Raises:
        CamReportError: there is no such option.
    """
    keys: dict[str, tuple[str, object]] = {}
    for name, option in options_of(settings).items():
        if value is True:
            keys |= {switch: (name, meant) for switch, meant in option.switches.items()}
        keys |= {option.flag: (name, value), "--" + name.replace("_", "-"): (name, value)}
    flag = "--" + key.replace("_", "-")
    if flag in keys:
        return keys[flag]
    near = suggestion(flag, keys).replace("--", "")
    raise CamReportError(
        f"config: expected options of 'camreport run' in {str(file)!r}, got {key!r}.{near}"
    )


def _parsed(option: Option, value: object) -> object:
    """Return the option's value for a value in TOML.

    Raises:
        ValueError, CamReportError: the option does not take it.
    """
    if not option.switches:
        return option.parse(_text(value))
    known = dict.fromkeys([option.default, *option.switches.values()])
    if type(value) is type(option.default) and value in known:
        return value
    expected = " or ".join(map(json.dumps, known))
    raise ValueError(f"expected {expected}, got {_shown(value)}.")


def _text(value: object) -> str:
    """Return a value of TOML as a word of the command line.

    Raises:
        ValueError: it has no such form.
    """
    if isinstance(value, list):
        return join_list(map(_text, value))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a text, a number or a list of them, got {_shown(value)}.")
    return str(value)


def _shown(value: object) -> str:
    return json.dumps(value, default=str)
