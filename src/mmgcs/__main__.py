"""The installed command, and `python -m mmgcs`."""

import gc
import sys


def command() -> int:
    """Run the command line and return its exit status."""
    try:
        from mmgcs.cli import main

        status = main()
        gc.freeze()  # skip the last garbage collection at exit, which takes 0.1 s
        return status
    except KeyboardInterrupt:  # during the import, before `main` can catch it
        print("mmgcs: error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(command())
