"""The command line: one thin file per command, and one place where errors become exit statuses.

To add a command, write `mmgcs/cli/<name>.py` with a `typer.Typer` named `app` (see `new_app`), and add its name to
`COMMANDS` in `main.py`. Inside a command:

- import anything heavy inside the function, so that `mmgcs --help` and `mmgcs predict` start fast;
- write results to stdout with `print`, everything else with `say` (stderr);
- raise `MmgcsError` or `UsageError` with one line for the user; `typer.Exit(3)` if some films were in error;
- with `--json` print one JSON value with `print_json` and nothing else. Errors are then JSON on stdout too;
- where Ctrl-C keeps finished work, wrap the work in `explain_interrupt("… is kept; … to continue")`.
"""

from mmgcs.cli.main import COMMANDS, main
from mmgcs.cli.output import bar, examples, explain_interrupt, new_app, print_json, say

__all__ = ["COMMANDS", "bar", "examples", "explain_interrupt", "main", "new_app", "print_json", "say"]
