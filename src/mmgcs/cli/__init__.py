"""The command line: a thin module per command or family of commands; errors become exit statuses in `main.py`.

To add a command, write `mmgcs/cli/<name>.py` with a `typer.Typer` named `app` (see `new_app`), and add its name to
`COMMANDS` in `main.py`. Inside a command:

- import anything heavy inside the function, so that `mmgcs --help` and `mmgcs predict` start fast;
- write results to stdout with `print`, everything else with `say` (stderr);
- raise `MmgcsError` or `UsageError` with one line for the user; `typer.Exit(3)` if some films were in error;
- print the result with `print_result`: with `--json` stdout gets one JSON value and nothing else, also for an error;
- if Ctrl-C keeps finished work, wrap the work in `explain_interrupt("… is kept; … to continue")`.
"""

from mmgcs.cli.main import COMMANDS, main

__all__ = ["COMMANDS", "main"]
