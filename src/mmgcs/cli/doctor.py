"""`mmgcs doctor`: what is installed, what is missing, and how to get it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from mmgcs.cli.options import AsJson
from mmgcs.cli.output import examples, new_app, print_json

app = new_app("Show what is installed, what is missing, and how to get it.")

_MARKS = {"ok": "ok", "missing": "note", "wrong": "WRONG"}


@app.command(epilog=examples("mmgcs doctor", "mmgcs doctor --json"))
def doctor(as_json: AsJson = False) -> None:
    """Show what is installed, what is missing, and how to get it. Exit status 1 if prediction does not work."""
    from mmgcs.doctor import examine, works

    findings = examine()
    working = works(findings)
    if as_json:
        print_json({"works": working, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{_MARKS[finding.state]:<8}{finding.name:<15}{finding.detail}")
            if finding.fix is not None:
                print(f"{'':<23}to fix it: {finding.fix}")
        print("Prediction works." if working else "Prediction does not work; fix what is WRONG.")
    if not working:
        raise typer.Exit(1)
