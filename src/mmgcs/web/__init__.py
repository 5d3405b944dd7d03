"""The web application and the HTTP API, with Flask."""

from mmgcs.web.app import create_app
from mmgcs.web.server import limit_arenas, serve
from mmgcs.web.settings import Settings, load_settings

__all__ = ["Settings", "create_app", "limit_arenas", "load_settings", "serve"]
