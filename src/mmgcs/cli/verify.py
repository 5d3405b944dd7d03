"""`mmgcs verify`: is a bundle whole, does it predict, does it match its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.output import new_app, print_json

app = new_app("Is a bundle whole, does it predict, does it match its card.")


@app.command()
def verify(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle's folder; without it, the default bundle.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Check a bundle's sums, graphs and predictions. Exit status 1 when something is wrong."""
    from mmgcs.bundle import DEFAULT_BUNDLE
    from mmgcs.runtime.verify import verify as check

    bundle = bundle or DEFAULT_BUNDLE
    checks = check(bundle)
    passed = all(item.passed for item in checks)
    if as_json:
        details = [{"name": item.name, "passed": item.passed, "detail": item.detail} for item in checks]
        print_json({"bundle": str(bundle), "passed": passed, "checks": details})
    else:
        for item in checks:
            print(f"{'ok    ' if item.passed else 'WRONG '} {item.name:<9} {item.detail}")
    if not passed:
        raise typer.Exit(1)
