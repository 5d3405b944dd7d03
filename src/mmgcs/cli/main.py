"""The entry point: finds the command's module, runs it, and turns every error into one line and an exit status."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mmgcs
from mmgcs.cli.output import mend_streams, speaks_unicode
from mmgcs.errors import MmgcsError


class Command(NamedTuple):
    """A command: its module, one line of help, and the extra that it needs, if any."""

    module: str
    help: str
    extra: str | None = None


COMMANDS: dict[str, Command] = {
    "demo": Command("mmgcs.cli.demo", "Tag the shipped sample and show the result beside the truth."),
    "predict": Command("mmgcs.cli.predict", "Genres of one film, from its plot, its poster, or both."),
    "tag": Command("mmgcs.cli.tag", "Genres of every film in a table."),
    "library": Command("mmgcs.cli.library", "Genres of a media library's NFO files."),
    "serve": Command("mmgcs.cli.serve", "Serve the model over HTTP."),
    "explain": Command("mmgcs.cli.explain", "Why a film got its genres."),
    "verify": Command("mmgcs.cli.verify", "Is a bundle whole, does it predict, does it match its card."),
    "doctor": Command("mmgcs.cli.doctor", "What is installed, what is missing, how to get it."),
    "data": Command("mmgcs.cli.data", "Prepare, inspect and split labelled films.", "train"),
    "train": Command("mmgcs.cli.train", "Train a model from a recipe.", "train"),
    "train-all": Command("mmgcs.cli.train_all", "Train every recipe, one after the other.", "train"),
    "tune": Command("mmgcs.cli.tune", "Search a recipe's hyper-parameters.", "train"),
    "evaluate": Command("mmgcs.cli.evaluate", "Measure a bundle on labelled films.", "train"),
    "export": Command("mmgcs.cli.export", "Turn a training run into a bundle.", "train"),
    "ensemble": Command("mmgcs.cli.ensemble", "Join bundles into one.", "train"),
}
"""Every command by name. One whose module does not exist is left out."""

EXIT_INTERRUPTED = 130

_OWN = Path(__file__).parent
# Packages that import under another name than the one pip knows.
_PIP_NAMES = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "pytorch_lightning": "pytorch-lightning"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 failed, 2 wrong call, 3 done with films in error."""
    args = list(sys.argv[1:] if argv is None else argv)
    wants_json = "--json" in args
    mend_streams()
    try:
        status = _run(args)
        sys.stdout.flush()
        return status
    except MmgcsError as error:
        return _fail(str(error), error.exit_status, wants_json)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED, wants_json)
    except BrokenPipeError:
        _flush()  # the reader of our output went away (`mmgcs … | head`)
        return 1
    except ModuleNotFoundError as error:
        if os.environ.get("MMGCS_TRACEBACK") or error.name is None or error.name.split(".")[0] == "mmgcs":
            raise
        return _fail(_missing(args[0], error.name), 2, wants_json)
    except OSError as error:
        if os.environ.get("MMGCS_TRACEBACK"):
            raise
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"the system refused{where}: {error.strerror or error}", 1, wants_json)
    except Exception as error:
        if os.environ.get("MMGCS_TRACEBACK"):
            raise
        text = f"an error in mmgcs itself ({type(error).__name__}: {error}); MMGCS_TRACEBACK=1 shows where"
        return _fail(text, 1, wants_json)


def command() -> int:
    """The installed command: `main`, without tidying up where that would take a tenth of the whole."""
    if sys.argv[1:2] != ["predict"]:
        return main()
    gc.disable()  # imports make many objects and little garbage
    status = main()
    # It wrote its answer and holds nothing but memory, which onnxruntime would free piece by piece.
    sys.stderr.flush()
    os._exit(status)


def available() -> dict[str, Command]:
    """The commands whose modules exist."""
    found = {}
    for name, command in COMMANDS.items():
        stem = command.module.rpartition(".")[2]
        if (_OWN / f"{stem}.py").is_file() or (_OWN / stem / "__init__.py").is_file():
            found[name] = command
    return found


def _run(args: list[str]) -> int:
    commands = available()
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage(commands))
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        print(f"mmgcs {mmgcs.__version__}")
        return 0
    name, *rest = args
    if name not in commands:
        from mmgcs.wording import did_you_mean  # here: every start would pay for it

        raise _CallError(f"there is no command {name!r}; {did_you_mean(name, commands) or 'see mmgcs --help'}")
    return _run_app(commands[name].module, f"mmgcs {name}", rest)


def _run_app(module: str, program: str, args: list[str]) -> int:
    loaded = importlib.import_module(module)
    if hasattr(loaded, "run"):
        return int(loaded.run(program, args))

    import typer

    # typer carries click inside itself since 0.20; its own exceptions lead to the same base classes before and after.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    click_error: type[Exception] = typer.BadParameter.__mro__[2]
    try:
        status = loaded.app(args=args, prog_name=program, standalone_mode=False)
    except usage_error as error:
        where = getattr(error, "ctx", None)
        raise _CallError(f"{_one_line(error)}; see {where.command_path if where else program} --help") from None
    except click_error as error:
        raise _CallError(_one_line(error)) from None
    except typer.Exit as error:
        return int(error.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0


class _CallError(MmgcsError):
    exit_status = 2


def _one_line(error: BaseException) -> str:
    from mmgcs.wording import plain

    text = error.format_message() if hasattr(error, "format_message") else str(error)
    start, colon, end = " ".join(str(text).split()).rstrip(".").rpartition(": ")
    line = start + colon + plain(end)  # typer checks values with pydantic
    return (line[:1].lower() + line[1:]) if line else "the arguments are missing or wrong"


def _usage(commands: dict[str, Command]) -> str:
    width = max(map(len, commands), default=0)
    lines = [f"  {name:<{width}}  {command.help}" for name, command in commands.items()]
    return "\n".join(
        [
            f"mmgcs {mmgcs.__version__}: which genres a film belongs to, from its plot, its poster, or both.",
            "",
            "Usage: mmgcs COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "mmgcs COMMAND --help tells a command's options.",
        ]
    )


def _missing(command: str, module: str) -> str:
    package = _PIP_NAMES.get(module.split(".")[0], module.split(".")[0])
    extra = COMMANDS[command].extra if command in COMMANDS else None
    install = f'pip install "mmgcs[{extra}]"' if extra else f"pip install {package}"
    return f"mmgcs {command} needs {package}, which is not installed; {install}"


def _fail(message: str, status: int, wants_json: bool) -> int:
    line = " ".join(message.split())
    if wants_json:
        with contextlib.suppress(OSError):
            print(json.dumps({"error": line}, ensure_ascii=not speaks_unicode()))
    _flush()
    print(f"mmgcs: error: {line}", file=sys.stderr)
    return status


def _flush() -> None:
    """Write what is left for stdout; where that fails, drop it, so that Python does not try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
