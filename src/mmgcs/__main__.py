"""The installed command, and `python -m mmgcs`."""

import gc
import sys


def command() -> int:
    """Run the command line and return its exit status."""
    try:
        from mmgcs.cli import main

        status = main()
        gc.freeze()  # Python would search everything for garbage once more at its end, for a tenth of a second
        return status
    except KeyboardInterrupt:  # during the import, before `main` can catch it
        print("mmgcs: error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(command())
