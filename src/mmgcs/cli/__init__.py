"""The command line: a table from command to module, and one place where errors become exit statuses.

To add a command, write `mmgcs/cli/<name>.py` with a `typer.Typer` named `app` (see `new_app`), and add one line to
`COMMANDS`. Only the module of the command that was called is imported, so that `mmgcs predict` starts fast; a command
whose module does not exist is neither shown nor known. Inside a module:

- instead of `app` it may have `run(program, args) -> int`, as `predict` does: typer imports pydantic, which takes
  longer than the prediction;
- import what is heavy inside the command's function;
- write results to stdout with `print`, everything else with `say` (stderr);
- raise `MmgcsError` or `UsageError` with one line for the user; `typer.Exit(3)` when some films were in error;
- with `--json` print one JSON value with `print_json` and nothing else. Errors are then JSON on stdout as well.
"""

from mmgcs.cli.main import COMMANDS, command, main
from mmgcs.cli.output import bar, new_app, print_json, say

__all__ = ["COMMANDS", "bar", "command", "main", "new_app", "print_json", "say"]
