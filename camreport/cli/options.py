"""The command line's options: how they are read, and how ``--help`` lists them in groups."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from camreport.cli.config import read_config
from camreport.errors import suggestion
from camreport.settings import GROUPS, OneOf, Option, Settings, options_of
from camreport.settings.text import read_path


class GroupedOption(click.Option):
    """An option that ``--help`` lists under a heading.

    Attributes:
        group: the heading.
        meaning: its text in ``--help``, without the default.
        shown_default: the default in words; empty where there is none.
    """

    def __init__(
        self,
        declarations: Sequence[str],
        meaning: str,
        *,
        group: str = GROUPS[-1],
        shown_default: str = "",
        **attributes: Any,
    ) -> None:
        default = f"  [default: {shown_default}]" if shown_default else ""
        super().__init__(declarations, help=meaning + default, **attributes)
        self.group, self.meaning, self.shown_default = group, meaning, shown_default


class GroupedCommand(click.Command):
    """A command whose ``--help`` lists its options group by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group of options under its heading."""
        records: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                records[getattr(parameter, "group", GROUPS[-1])].append(record)
        for group, listed in records.items():
            if listed:
                with formatter.section(group):
                    formatter.write_dl(listed)


class Value(click.ParamType):  # type: ignore[type-arg]
    """Parses the value of an option of ``Settings`` with that option's own function."""

    name = "value"

    def __init__(self, option: Option) -> None:
        self.option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value of a text."""
        try:
            return self.option.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the words that begin like what is typed, or files."""
        if isinstance(self.option.parse, OneOf):
            words = self.option.parse.words
            return [CompletionItem(word) for word in words if word.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file")] if self.option.parse is read_path else []


class HomePath(click.Path):
    """A path, read as the paths among the settings are."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path with ``~`` expanded."""
        return super().convert(read_path(value), param, ctx)


def remember_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Note in the context that tracebacks are wanted."""
    ctx.ensure_object(dict)["debug"] = value


def from_settings(
    settings: type = Settings,
    chosen: Callable[[Option], bool] = lambda option: True,
    shown_default: str = "",
) -> list[GroupedOption]:
    """Return the command line's form of the options of a class of settings.

    Args:
        settings: ``Settings`` or a class derived from it.
        chosen: which of its options are meant.
        shown_default: the default in words, instead of the options' own.
    """
    return [
        _from_option(name, option, shown_default or option.default_words)
        for name, option in options_of(settings).items()
        if chosen(option)
    ]


def _from_option(name: str, option: Option, shown_default: str) -> GroupedOption:
    def meant(_ctx: click.Context, _parameter: click.Parameter, value: bool | None) -> object:
        return None if value is None else [*option.switches.values(), False][not value]

    attributes: dict[str, Any] = (
        {"is_flag": True, "default": None, "callback": meant}
        if option.switches
        else {"type": Value(option), "metavar": option.metavar or None}
    )
    return GroupedOption(
        ["/".join(option.switches) or option.flag, name],
        option.help,
        group=option.group,
        shown_default=shown_default,
        **attributes,
    )


def given(ctx: click.Context, settings: type = Settings) -> dict[str, Any]:
    """Return the values of the options that stand on the command line, by their names."""
    return {
        name: ctx.params[name]
        for name in options_of(settings)
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def settings_of(ctx: click.Context) -> Settings:
    """Return the settings from the command line, else the configuration file, else the defaults.

    Raises:
        CamReportError: a value makes no sense, or the file is wrong.
    """
    words = given(ctx)
    values = read_config(ctx.params["config"]) | words
    return Settings(**values, spelled=frozenset(words))


def switch(flag: str, meaning: str, group: str = GROUPS[-1]) -> GroupedOption:
    """Return an option without a value.

    Args:
        flag: its word on the command line.
        meaning: for ``--help``.
        group: the heading under which ``--help`` lists it.
    """
    return GroupedOption([flag], meaning, is_flag=True, group=group)


OUT = GroupedOption(
    ["-o", "--out"],
    "Folder for the report, or an address on object storage: s3://bucket/run.",
    default="report",
    shown_default="report",
    type=HomePath(),
    metavar="FOLDER",
    group="Output",
)

QUIET = switch("--quiet", "Print errors only.", group="Output")

VERBOSE = switch("--verbose", "Print which tensor each map was read from.", group="Output")

CONFIG = GroupedOption(
    ["--config"],
    "TOML file with options, such as: gamma = 1.5. The command line takes precedence.",
    type=HomePath(),
    metavar="FILE",
    shown_default="[tool.camreport] in pyproject.toml",
)

DEBUG = GroupedOption(
    ["--debug"],
    "Show tracebacks.",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=remember_debug,
)


def argument_of(error: click.UsageError) -> str:
    """Return the name of the argument that is wrong, as our own errors have it."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        return ""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len).lstrip("-")
    return "input" if parameter.name == "inputs" else str(parameter.name)


def worded(error: click.UsageError) -> str:
    """Return a usage error in the words of our own errors: what was expected, got, and next."""
    path = error.ctx.command_path if error.ctx else "camreport"
    argument = argument_of(error)
    if isinstance(error, click.NoSuchOption):
        near = suggestion(error.option_name, error.possibilities or ())
        return (
            f"option: expected one of {path}, got {error.option_name!r}.{near} "
            f"All options: {path} --help"
        )
    if isinstance(error, click.MissingParameter):
        what = "an image, a folder or a pattern" if argument == "input" else "a value"
        return f"{argument}: expected {what}, got none. For instance: {path} photos/"
    if argument:
        return f"{argument}: {error.message}"
    message = error.message[:1].lower() + error.message[1:]
    return message if message.startswith("command:") else f"{message} See: {path} --help"
