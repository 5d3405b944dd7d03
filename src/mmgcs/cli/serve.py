"""`mmgcs serve`: the web page and the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmgcs.cli.output import examples, new_app

app = new_app("Serve the web page and the HTTP API.")


@app.command(epilog=examples("mmgcs serve", "mmgcs serve --host 0.0.0.0 --port 8080 --model runs/mine/bundle"))
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            help="Port to listen on; 0 for any free one.",
            envvar="PORT",
            min=0,
            max=65535,
            show_default="$PORT, or 10000",
        ),
    ] = 10000,
    model: Annotated[
        Path | None, typer.Option(help="Folder of the bundle.", show_default="the default model", metavar="DIR")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Requests handled at the same time.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second from one address.", min=0)] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="API key that predictions require; better set $MMGCS_API_KEY.", show_default=False),
    ] = None,
) -> None:
    """Serve the web page and the HTTP API until SIGTERM or Ctrl-C; requests in flight are finished first."""
    from mmgcs.machine import limit_arenas

    limit_arenas()  # before the imports below start threads
    from mmgcs.web import create_app, load_settings
    from mmgcs.web import serve as serve_app

    settings = load_settings(model=model, threads=threads, rate=rate, api_key=api_key)
    serve_app(create_app(settings=settings), host, port)
