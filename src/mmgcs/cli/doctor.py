"""`mmgcs doctor`: what is installed, what is missing, how to get it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from mmgcs.cli.output import print_json
from mmgcs.errors import UsageError

_MARKS = {"ok": "ok", "missing": "note", "wrong": "WRONG"}


def run(program: str, args: Sequence[str]) -> int:
    """Look at the installation. Returns 0 when the running side works, 1 when it does not."""
    # argparse, since typer may be what is missing.
    parser = argparse.ArgumentParser(
        program, description="What is installed, what is missing, how to get it.", allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    try:
        wanted, unknown = parser.parse_known_args(args)
    except SystemExit as stop:  # --help was printed
        return int(stop.code or 0)
    if unknown:
        raise UsageError(f"{program} has no option {unknown[0]}; see {program} --help")
    from mmgcs.doctor import examine, works

    findings = examine()
    good = works(findings)
    if wanted.json:
        print_json({"works": good, "findings": [asdict(finding) for finding in findings]})
        return 0 if good else 1
    for finding in findings:
        print(f"{_MARKS[finding.state]:<8}{finding.name:<15}{finding.detail}")
        if finding.mend is not None:
            print(f"{'':<23}mend it: {finding.mend}")
    print("The running side works." if good else "The running side does not work; mend what is WRONG.")
    return 0 if good else 1
