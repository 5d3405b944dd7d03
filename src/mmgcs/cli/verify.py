"""`mmgcs verify`: check that a bundle is complete, predicts, and matches its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Model
from mmgcs.cli.output import examples, new_app, print_json
from mmgcs.errors import UsageError

app = new_app("Check that a bundle is complete, predicts, and matches its model card.")


@app.command(epilog=examples("mmgcs verify", "mmgcs verify runs/default/bundle --json"))
def verify(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A bundle's folder.", show_default="the default model")
    ] = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Check that a bundle is complete, predicts, and matches its model card. Exit status 1 if something is wrong."""
    from mmgcs.bundle import DEFAULT_BUNDLE
    from mmgcs.runtime import verify as run_checks

    if bundle is not None and model is not None:
        raise UsageError("DIR and --model name the same thing; give one")
    path = bundle or model or DEFAULT_BUNDLE
    checks = run_checks(path)
    passed = all(check.passed for check in checks)
    if as_json:
        details = [{"name": check.name, "passed": check.passed, "detail": check.detail} for check in checks]
        print_json({"bundle": str(path), "passed": passed, "checks": details})
    else:
        for check in checks:
            print(f"{'ok    ' if check.passed else 'WRONG '} {check.name:<9} {check.detail}")
    if not passed:
        raise typer.Exit(1)
