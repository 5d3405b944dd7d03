"""The web application and the HTTP API: Flask, pydantic and the running side; never torch."""

from typing import TYPE_CHECKING, Any

from mmgcs.web.settings import Settings

if TYPE_CHECKING:
    from mmgcs.web.app import create_app

__all__ = ["Settings", "create_app"]


def __getattr__(name: str) -> Any:
    # The application brings onnxruntime and polars with their threads, which a server that forks must not have yet.
    if name == "create_app":
        from mmgcs.web.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
