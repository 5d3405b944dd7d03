"""`python -m mmgcs` is the command line."""

import sys

from mmgcs.cli import main

if __name__ == "__main__":
    sys.exit(main())
