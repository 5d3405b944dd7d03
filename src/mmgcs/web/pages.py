"""The pages."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def index() -> Any:
    """The page that tags one film."""
    return render_template("index.html")
