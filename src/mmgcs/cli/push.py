"""`mmgcs push`: upload a bundle to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.options import AsJson
from mmgcs.cli.output import examples, new_app, print_json

app = new_app("Upload a bundle to the Hugging Face hub.")


@app.command(epilog=examples("mmgcs push runs/mine/bundle owner/my-genres --private"))
def push(
    bundle: Annotated[Path, typer.Argument(metavar="DIR", help="A bundle's folder.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The model repository; created if needed.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    license_name: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="For the card, such as mit.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Upload a bundle, with a model card that has its scores. The token comes from HF_TOKEN or `hf auth login`."""
    from mmgcs.hub import push_bundle

    url = push_bundle(bundle, repo, private=private, license_name=license_name)
    if as_json:
        print_json({"url": url})
    else:
        print(f"Uploaded to {url}")
