"""A report as JSON, Markdown and one HTML page that needs nothing else. The page is the Markdown with figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmgcs.evaluation.metrics import OVERALL, Estimate
from mmgcs.evaluation.report import ConditionReport, Report
from mmgcs.files import atomic_writer, write_json
from mmgcs.wording import METRIC_NAMES

_TEMPLATES = Path(__file__).parent / "templates"
_DETAILED = ("plot and poster", "plot only", "poster only")


def report_paths(folder: Path) -> list[Path]:
    """Return what `write_report` writes into `folder`: report.json, report.md and report.html."""
    return [folder / f"report.{kind}" for kind in ("json", "md", "html")]


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.md and report.html into `folder`, each whole or not at all. Returns their paths."""
    paths = report_paths(folder)
    write_json(paths[0], report.to_json())
    for path, text in zip(paths[1:], (to_markdown(report), to_html(report)), strict=True):
        with atomic_writer(path) as file:
            file.write(text)
    return paths


def to_markdown(report: Report, *, figures: bool = False) -> str:
    """Return the report as a Markdown page; with `figures`, it refers to those of `mmgcs.evaluation.plots`."""
    filters: dict[str, Callable[[Any], str]] = {
        "show": show,
        "gain": _show_gain,
        "percent": lambda share: f"{share:.0%}",
        "three": lambda number: "–" if number is None else f"{number:.3f}",
        "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
    }
    values = {"report": report, "detailed": detailed(report), "overall": OVERALL, "names": METRIC_NAMES}
    return fill_template(_TEMPLATES / "report.md.j2", filters, figures=figures, **values)


def to_html(report: Report) -> str:
    """Return the report as one HTML page with its figures inside."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    from mmgcs.evaluation.plots import draw_report

    figures = draw_report(report, detailed(report))
    # This preset shows HTML in the text as text: names come from files of strangers.
    parser = MarkdownIt("js-default")
    tokens = parser.parse(to_markdown(report, figures=True))
    for token in tokens:
        token.attrs.pop("style", None)
        for child in token.children or ():
            if child.type == "image":
                child.type, child.content = "html_inline", figures.get(str(child.attrs["src"]), "")
    body = parser.renderer.render(tokens, parser.options, {})
    title = f"{report.model['name']} on {report.split}"
    return fill_template(_TEMPLATES / "report.html.j2", {}, title=title, body=Markup(body))  # noqa: S704  escaped above


def detailed(report: Report) -> tuple[ConditionReport, ...]:
    """Return the conditions that are shown genre by genre; the first if none of the usual ones applied."""
    found = tuple(condition for condition in report.conditions if condition.name in _DETAILED)
    return found or report.conditions[:1]


def show(estimate: Estimate) -> str:
    """Return an estimate as text: 0.712 (0.698–0.726)."""
    if estimate.value is None:
        return "–"
    interval = f" ({estimate.low:.3f}–{estimate.high:.3f})" if estimate.low is not None else ""
    return f"{estimate.value:.3f}{interval}"


def _show_gain(estimate: Estimate) -> str:
    """Return a difference as text, with its sign: +0.041 (+0.030 to +0.052)."""
    if estimate.value is None:
        return "–"
    interval = f" ({estimate.low:+.3f} to {estimate.high:+.3f})" if estimate.low is not None else ""
    return f"{estimate.value:+.3f}{interval}"


def fill_template(path: Path, filters: Mapping[str, Callable[[Any], str]], **values: object) -> str:
    """Return a Jinja template's text; if its name ends in .html.j2, values are escaped.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=path.name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment.get_template(path.name).render(**values)
