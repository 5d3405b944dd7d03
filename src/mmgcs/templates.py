"""Fill the Jinja templates of reports, cards and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape


def open_templates(folder: Path) -> Environment:
    """Return the templates of a folder. In those whose names end in .html.j2, values are escaped.

    The filter `three` shows a number with three decimals, or a dash for None.
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
    """Return the text of the template at `path`, filled with `values`.

    Args:
        path: the template.
        filters: filters that it uses beside `three` and Jinja's own.
        values: what it shows.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    environment = open_templates(path.parent)
    environment.filters.update(filters or {})
    return environment.get_template(path.name).render(**values)
