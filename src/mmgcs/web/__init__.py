"""The web application and the HTTP API, with Flask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmgcs.registry import lazy_exports

if TYPE_CHECKING:
    from mmgcs.web.app import create_app
    from mmgcs.web.server import serve
    from mmgcs.web.settings import Settings, load_settings

__all__ = ["Settings", "create_app", "load_settings", "serve"]

# Lazy, because the process that counts an uploaded table (`upload_check`) needs no web application.
__getattr__ = lazy_exports(
    __name__, {"app": ["create_app"], "server": ["serve"], "settings": ["Settings", "load_settings"]}
)
