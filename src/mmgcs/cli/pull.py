"""`mmgcs pull`: download a bundle from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson, Overwrite
from mmgcs.cli.output import examples, new_app, print_json

app = new_app("Download a bundle from the Hugging Face hub.")


@app.command(epilog=examples("mmgcs pull owner/my-genres --out models/my-genres"))
def pull(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model repository; @REVISION may follow.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the bundle.")],
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Download a bundle and check its files. It contains no code, and none is run."""
    from mmgcs.hub import pull_bundle

    bundle = pull_bundle(repo, out, replace=overwrite)
    if as_json:
        print_json({"bundle": str(bundle.path), "name": bundle.config.name, "genres": list(bundle.config.genres)})
    else:
        print(
            f"The bundle {bundle.config.name} is in {bundle.path}. Try: mmgcs predict --model {bundle.path} --plot '…'"
        )
