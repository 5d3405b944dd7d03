"""`mmgcs verify` and `mmgcs doctor`: check a bundle, or the installation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Model
from mmgcs.cli.output import examples, new_app, print_result
from mmgcs.errors import UsageError

app = new_app()


@app.command(epilog=examples("mmgcs verify", "mmgcs verify runs/default/bundle --json"))
def verify(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A bundle's folder.", show_default="the default model")
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Check that a bundle is complete, predicts, and matches its model card. Exit status 1 if something is wrong."""
    from mmgcs.bundle import bundle_folder
    from mmgcs.runtime import verify as run_checks

    if bundle is not None and model is not None:
        raise UsageError("DIR and --model name the same thing; give one")
    path = bundle_folder(bundle or model)
    checks = run_checks(path)
    passed = all(check.passed for check in checks)
    lines = [f"{'ok    ' if check.passed else 'WRONG '} {check.name:<9} {check.detail}" for check in checks]
    value = {"bundle": str(path), "passed": passed, "checks": [asdict(check) for check in checks]}
    print_result(value, "\n".join(lines), as_json)
    if not passed:
        raise typer.Exit(1)


@app.command(epilog=examples("mmgcs doctor", "mmgcs doctor --json"))
def doctor(as_json: AsJson = False) -> None:
    """Show what is installed, what is missing, and how to get it. Exit status 1 if prediction does not work."""
    from mmgcs.doctor import examine

    findings = examine()
    working = all(finding.state != "wrong" for finding in findings)
    lines = []
    marks = {"ok": "ok", "missing": "note", "wrong": "WRONG"}
    for finding in findings:
        lines.append(f"{marks[finding.state]:<8}{finding.name:<15}{finding.detail}")
        if finding.fix is not None:
            lines.append(f"{'':<23}to fix it: {finding.fix}")
    lines.append("Prediction works." if working else "Prediction does not work; fix what is WRONG.")
    value = {"works": working, "findings": [asdict(finding) for finding in findings]}
    print_result(value, "\n".join(lines), as_json)
    if not working:
        raise typer.Exit(1)
