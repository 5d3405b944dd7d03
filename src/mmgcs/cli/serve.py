"""`mmgcs serve`: the web page and the HTTP API."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from mmgcs.cli.options import Model
from mmgcs.cli.output import examples, new_app

app = new_app()


@app.command(epilog=examples("mmgcs serve", "mmgcs serve --host 0.0.0.0 --port 8080 --model runs/mine/bundle"))
def serve(
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[
        int, Option(help="Port; 0 for any free one.", envvar="PORT", min=0, max=65535, show_default="$PORT, or 10000")
    ] = 10000,
    model: Model = None,
    threads: Annotated[int | None, Option(help="Requests handled at the same time.", min=1)] = None,
    rate: Annotated[float | None, Option(help="Requests per second from one address.", min=0)] = None,
    api_key: Annotated[
        str | None, Option(help="API key that predictions require; better set it as $MMGCS_API_KEY.")
    ] = None,
) -> None:
    """Serve the web page and the HTTP API until SIGTERM or Ctrl-C; requests in flight are finished first."""
    from mmgcs.machine import limit_arenas

    limit_arenas()  # before the imports below start threads
    from mmgcs.web import create_app, load_settings
    from mmgcs.web import serve as serve_app

    settings = load_settings(model=model, threads=threads, rate=rate, api_key=api_key)
    serve_app(create_app(settings=settings), host, port)
