"""Additions to the site's build: pages missing from the menu are added, other hosts are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

# What a browser would fetch by itself; links that a reader clicks are no concern.
LOADED = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*stylesheet[^>]*//""")
IN_STYLES = re.compile(r"url\(\s*[\"']?(?:https?:)?//|@import\s+[\"'](?:https?:)?//")


SECTIONS = {"How-to": "how-to", "Reference": "reference"}


def on_config(config: Any, **_: Any) -> None:
    """Put pages that the menu does not name at the end of their folder's section, so that a new page only has to be."""
    for part in config["nav"]:
        for section, folder in SECTIONS.items():
            if isinstance(part, dict) and section in part:
                named = {next(iter(entry.values())) if isinstance(entry, dict) else entry for entry in part[section]}
                pages = sorted(f"{folder}/{path.name}" for path in Path(config["docs_dir"], folder).glob("*.md"))
                part[section].extend(page for page in pages if page not in named)


def on_post_build(config: Any, **_: Any) -> None:
    """Refuse a site that loads anything from another host: it must work without network, and tell nobody."""
    site = Path(config["site_dir"])
    for pattern, name in ((LOADED, "*.html"), (IN_STYLES, "*.css")):
        for path in site.rglob(name):
            found = pattern.search(path.read_text(encoding="utf-8"))
            if found:
                raise PluginError(f"{path.relative_to(site)} loads from another host: {found.group()}")
