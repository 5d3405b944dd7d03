"""The entry point: run one command, and turn every error into one line and an exit status."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmgcs.cli.options import repeat_columns
from mmgcs.cli.output import examples, prepare_streams, say, stdout_is_unicode
from mmgcs.errors import INTERRUPTED, MmgcsError, UsageError
from mmgcs.version import __version__

PREDICT, CHECK, TRAIN = "Predict and tag", "Check", "Train and measure (needs mmgcs\\[train])"
SHARE = "Share (needs mmgcs\\[hub])"
COMMANDS = {
    **dict.fromkeys(("demo", "predict", "explain", "tag", "library", "serve"), PREDICT),
    **dict.fromkeys(("verify", "doctor"), CHECK),
    **dict.fromkeys(("data", "train", "train-all", "tune", "evaluate", "export", "ensemble"), TRAIN),
    **dict.fromkeys(("push", "pull"), SHARE),
}
"""Each command's group in `mmgcs --help`."""

MODULES = {
    "explain": "predict",
    "verify": "check",
    "doctor": "check",
    "train-all": "train",
    "tune": "train",
    "ensemble": "export",
    "push": "push_pull",
    "pull": "push_pull",
}
"""The module of each command that is not in a module of its own name."""


class _Commands(TyperGroup):
    """Import a command's module when it is called, so that `mmgcs predict` does not wait for the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS:
            return load_command(cmd_name)
        if cmd_name.startswith("-") or ctx.resilient_parsing:
            return None
        from mmgcs.wording import did_you_mean

        raise UsageError(f"there is no command {cmd_name!r}; {did_you_mean(cmd_name, COMMANDS) or 'see mmgcs --help'}")


def load_command(name: str) -> Any:
    """Import a command's module and return the command, a click command or group."""
    command: Any = typer.main.get_command(importlib.import_module(f"mmgcs.cli.{MODULES.get(name, name)}").app)
    command = getattr(command, "commands", {}).get(name, command)
    command.name, command.rich_help_panel = name, COMMANDS[name]
    return command


app = typer.Typer(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=examples(
        'mmgcs predict --plot "A vampire count preys on a sleepy village."',
        "mmgcs tag films.csv --out tagged.csv",
        "mmgcs COMMAND --help",
    )
    + "\n\nExit status: 0 done; 1 failed; 2 wrong call (one line says why and how to fix it); "
    "3 done, but some films are in error; 130 interrupted with Ctrl-C.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mmgcs {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Predict which genres a film belongs to, from its plot, its poster, or both."""
    del version


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after `mmgcs`; None for those of this process.

    Returns:
        The exit status: 0 done, 1 failed, 2 wrong call, 3 done with some films in error, 130 interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    prepare_streams()
    try:
        status = app(repeat_columns(args), prog_name="mmgcs", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        _flush()  # the reader of our output has exited (`mmgcs … | head`)
        return 1
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed
            return 2
        status, message = _explain(error, args)
        return _fail(message, status, "--json" in args)
    if status == INTERRUPTED:  # also typer's answer to Ctrl-C
        return _fail("interrupted", INTERRUPTED, "--json" in args)
    return status if isinstance(status, int) else 0


def _explain(error: Exception, args: Sequence[str]) -> tuple[int, str]:
    """Return the exit status and the message for an error, or raise it if it should be shown in full."""
    if isinstance(error, MmgcsError):
        return error.exit_status, str(error)
    if isinstance(error, typer.TyperException):
        return 2, _describe(error, args)
    if os.environ.get("MMGCS_TRACEBACK"):
        raise error
    if isinstance(error, ModuleNotFoundError) and (error.name or "mmgcs").split(".")[0] != "mmgcs":
        return 2, _missing(args[0], str(error.name))
    if isinstance(error, OSError):
        return 1, f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    return 1, f"internal error ({type(error).__name__}: {error}); set MMGCS_TRACEBACK=1 to see where"


def _describe(error: Any, args: Sequence[str]) -> str:
    """Return typer's error as one line in our words, with the nearest option if one was misspelt."""
    from mmgcs.wording import plain

    near = getattr(error, "possibilities", None)
    if near:
        line = f"there is no option {error.option_name}; did you mean {near[0]}?"
    else:
        start, colon, end = " ".join(error.format_message().split()).rstrip(".").rpartition(": ")
        line = start + colon + plain(end)  # typer checks values with pydantic
        if extra := re.fullmatch(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", line):
            line = f"unexpected argument {extra[1]!r}: put values after their options, and quote those with spaces"
    called = " ".join(["mmgcs", *args[:1]]) if args[0] in COMMANDS else "mmgcs"
    where = error.ctx.command_path if getattr(error, "ctx", None) else called
    return f"{line[:1].lower()}{line[1:]}{'' if line.endswith('?') else ';'} see {where} --help"


def _missing(command: str, module: str) -> str:
    name = module.partition(".")[0]
    pip_names = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "pytorch_lightning": "pytorch-lightning"}
    package = pip_names.get(name, name)
    extras = {"sqlalchemy": "db", "ray": "scale", "huggingface_hub": "hub"}
    extra = extras.get(name) or ("train" if COMMANDS.get(command) == TRAIN else None)
    install = f'pip install "mmgcs[{extra}]"' if extra else f"pip install {package}"
    return f"mmgcs {command} needs {package}, which is not installed; {install}"


def _fail(message: str, status: int, wants_json: bool) -> int:
    line = " ".join(message.split())
    if wants_json:
        with contextlib.suppress(OSError):
            print(json.dumps({"error": line}, ensure_ascii=not stdout_is_unicode()))
    _flush()
    say(f"mmgcs: error: {line}")
    return status


def _flush() -> None:
    """Flush stdout; if that fails, drop what is left, so that Python does not try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
