"""`mmgcs push` and `mmgcs pull`: bundles on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mmgcs.cli.options import AsJson, Overwrite
from mmgcs.cli.output import examples, new_app, print_result

app = new_app()


@app.command(epilog=examples("mmgcs push runs/mine/bundle owner/my-genres --private"))
def push(
    bundle: Annotated[Path, Argument(metavar="DIR", help="A bundle's folder.")],
    repo: Annotated[str, Argument(metavar="OWNER/NAME", help="The model repository; created if needed.")],
    private: Annotated[bool, Option("--private", help="Make a new repository private.")] = False,
    license_name: Annotated[str | None, Option("--license", metavar="NAME", help="For the card, such as mit.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload a bundle, with a model card that has its scores. The token comes from HF_TOKEN or `hf auth login`."""
    from mmgcs.hub import push_bundle

    url = push_bundle(bundle, repo, private=private, license_name=license_name)
    print_result({"url": url}, f"Uploaded to {url}", as_json)


@app.command(epilog=examples("mmgcs pull owner/my-genres --out models/my-genres"))
def pull(
    repo: Annotated[str, Argument(metavar="OWNER/NAME", help="The model repository; @REVISION may follow.")],
    out: Annotated[Path, Option(metavar="DIR", help="The folder of the bundle.")],
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Download a bundle and check its files. It contains no code, and none is run."""
    from mmgcs.hub import pull_bundle

    bundle = pull_bundle(repo, out, replace=overwrite)
    name, path = bundle.config.name, bundle.path
    value = {"bundle": str(path), "name": name, "genres": list(bundle.config.genres)}
    print_result(value, f"The bundle {name} is in {path}. Try: mmgcs predict --model {path} --plot '…'", as_json)
