"""The web application and the HTTP API, with Flask."""

from mmgcs.web.app import create_app
from mmgcs.web.server import serve
from mmgcs.web.settings import Settings, load_settings

__all__ = ["Settings", "create_app", "load_settings", "serve"]
