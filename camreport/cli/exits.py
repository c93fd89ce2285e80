"""How the program ends: its exit codes and error messages.

Exit codes: 0 all well; 1 some inputs failed, or workers died; 2 wrong usage, nothing to do or a
file of this machine that cannot be read or written; 3 internal error; 130 interrupted.
"""

import errno
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from camreport.cli import console
from camreport.cli.options import worded
from camreport.errors import CamReportError, WorkerError, suggestion

MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EBADF)
"""What a disk answers that is full, read-only or broken."""


class Commands(click.Group):
    """The commands; as a program of its own it has our errors and exit codes."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command of that name.

        Raises:
            click.UsageError: there is none.
        """
        command = super().get_command(ctx, name)
        if command is None and not ctx.resilient_parsing and not name.startswith("-"):
            known = ", ".join(self.commands)
            raise click.UsageError(
                f"command: expected one of {known}, got {name!r}.{suggestion(name, self.commands)}"
            )
        return command

    def make_context(self, *given: Any, **extra: Any) -> click.Context:
        """Read the options; a reader who has gone is no error."""
        with _reader_may_go():
            return super().make_context(*given, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader who has gone is no error."""
        with _reader_may_go():
            return super().invoke(ctx)

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and, unless it is embedded, exit with the codes above."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        sys.exit(self.exit_code(args, prog_name, **extra))

    def exit_code(
        self, args: Sequence[str] | None = None, prog_name: str | None = "camreport", **extra: Any
    ) -> int:
        """Run a command; print what stopped it and return the exit code."""
        remembered: dict[str, bool] = {}
        try:
            with warnings.catch_warnings():
                warnings.showwarning = console.library_warning
                done = self.main(args, prog_name, standalone_mode=False, obj=remembered, **extra)
                return int(done or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return 2
        except click.UsageError as error:
            console.error(worded(error))
            return 2
        except (click.Abort, KeyboardInterrupt):
            console.note("interrupted. Results already written are kept: the same command resumes.")
            return 130
        except SystemExit as error:  # of a model's own code: Click's come back as numbers
            console.error(
                "model: expected code that returns, but the model's own ended the program "
                f"(sys.exit({error.code!r})). Take that out of it."
            )
            return 2
        except Exception as error:
            if remembered.get("debug"):
                traceback.print_exc()
            return _report(error)


@contextmanager
def _reader_may_go() -> Iterator[None]:
    """End quietly when standard output is a pipe that nobody reads any more."""
    try:
        yield
    except BrokenPipeError:
        console.silence(error=False)
        raise click.exceptions.Exit(0) from None


def _report(error: Exception) -> int:
    """Print the error that stopped a command; return the exit code."""
    if isinstance(error, CamReportError):
        console.error(str(error))
        return 1 if isinstance(error, WorkerError) else 2
    if isinstance(error, OSError) and (error.filename or error.errno in MACHINE_ERRORS):
        what = f"file: {str(error.filename)!r} cannot be read or written"
        console.error(
            f"{what if error.filename else 'output: what is printed cannot be written'} "
            f"({error.strerror}). Free some space, or choose another place; the same command "
            "resumes where it stopped."
        )
        console.silence(error=False)
        return 2
    console.error(f"{type(error).__name__}: {error}", "internal error")
    console.detail("This is a bug of camreport, or of the model's own code; --debug shows where.")
    return 3
