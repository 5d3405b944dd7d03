"""`mmgcs serve`: the web page and the HTTP API."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


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
) -> None:
    """Serve the web page and the HTTP API until SIGTERM or Ctrl-C; requests in flight are answered first."""
    from mmgcs.web import Settings, create_app
    from mmgcs.web.observing import log_to_stderr
    from mmgcs.web.server import Server, run_until_signal
    from mmgcs.web.settings import port_from

    settings = Settings.from_environment(threads=threads, rate=rate, api_key=api_key)
    chosen = port if port is not None else port_from(os.environ)
    log_to_stderr()
    server = Server(create_app(model, settings), host, chosen, settings)
    # Without network the name of any address is its number.
    shown, bound = server.address
    print(f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}/  (Ctrl-C ends)", file=sys.stderr, flush=True)
    if not run_until_signal(server):
        sys.stderr.flush()
        os._exit(1)  # a thread that is still in the model would abort an orderly exit
