"""Fill the Jinja templates of reports, cards and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape


def open_templates(folder: Path) -> Environment:
    """Return the templates of a folder. Values are escaped in files whose names end in .html.j2.

    The filter `three` formats a number with three decimals, and None as a dash.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["three"] = lambda number: "–" if number is None else f"{number:.3f}"
    return environment


def fill_template(path: Path, filters: Mapping[str, Callable[..., Any]] | None = None, **values: object) -> str:
    """Return the template at `path`, filled with `values`.

    Args:
        path: the template.
        filters: extra filters, besides `three` and Jinja's own.
        values: the template's variables.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not given.
    """
    environment = open_templates(path.parent)
    environment.filters.update(filters or {})
    return environment.get_template(path.name).render(**values)
