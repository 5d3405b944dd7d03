"""`python -m mmgcs` is the command line."""

import sys

from mmgcs.cli import command

if __name__ == "__main__":
    sys.exit(command())
