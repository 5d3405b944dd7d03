"""The installed command, and `python -m mmgcs`: the command line, which is imported where Ctrl-C is already heard."""

import sys


def command() -> int:
    """Run the command line and return its exit status."""
    try:
        from mmgcs.cli import command as run

        return run()
    except KeyboardInterrupt:  # before `main` was there to tell it
        if sys.stderr is not None:
            print("mmgcs: error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(command())
