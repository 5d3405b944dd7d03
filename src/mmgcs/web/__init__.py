"""The web application and the HTTP API: Flask, pydantic and the running side; never torch."""

from mmgcs.web.app import create_app
from mmgcs.web.settings import Settings

__all__ = ["Settings", "create_app"]
