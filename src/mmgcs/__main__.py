"""`python -m mmgcs` is `mmgcs`."""

from mmgcs.cli import main

main()
