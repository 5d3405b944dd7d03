"""`mmgcs serve`: the web page and the HTTP API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.output import new_app

app = new_app("Serve the model over HTTP.")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="The port; 0 for any.", min=0, max=65535, show_default="$PORT, or 10000")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A bundle's folder.", show_default="the one in the package", metavar="DIR")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Requests worked on at once.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second from one address.", min=0)] = None,
    api_key: Annotated[
        str | None, typer.Option(help="What predictions ask for; better given as $MMGCS_API_KEY.", show_default=False)
    ] = None,
    server: Annotated[str, typer.Option(help="waitress, or gunicorn where that is installed.")] = "waitress",
) -> None:
    """Serve the web page and the HTTP API until SIGTERM or Ctrl-C; requests in flight are answered first."""
    from mmgcs.web.servers import SERVERS
    from mmgcs.web.settings import Settings, port_from

    run = SERVERS[server]
    settings = Settings.from_environment(threads=threads, rate=rate, api_key=api_key)
    run(model, settings, host, port if port is not None else port_from(os.environ))
