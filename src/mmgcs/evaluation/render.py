"""Write a report as JSON, Markdown and one self-contained HTML page, which is the Markdown with figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmgcs.evaluation.metrics import OVERALL, Estimate
from mmgcs.evaluation.report import ConditionReport, Report
from mmgcs.files import atomic_writer, write_json
from mmgcs.templates import fill_template, open_templates
from mmgcs.wording import METRIC_NAMES

_TEMPLATES = Path(__file__).parent / "templates"


def report_paths(folder: Path) -> list[Path]:
    """Return the files that `write_report` writes: report.json, report.md and report.html."""
    return [folder / f"report.{kind}" for kind in ("json", "md", "html")]


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.json, report.md and report.html into `folder`, each whole or not at all, and return their paths."""
    paths = report_paths(folder)
    write_json(paths[0], report.to_json())
    for path, text in zip(paths[1:], (to_markdown(report), report_page(report)), strict=True):
        with atomic_writer(path) as file:
            file.write(text)
    return paths


def to_markdown(report: Report, *, figures: bool = False) -> str:
    """Return the report as a Markdown page; with `figures`, it refers to those in `figures.html.j2`."""
    return fill_template(
        _TEMPLATES / "report.md.j2",
        {
            "show": show,
            "gain": lambda estimate: show(estimate, "+"),
            "percent": lambda share: f"{share:.0%}",
            "cell": lambda text: str(text).replace("|", "\\|").replace("\n", " "),
        },
        report=report,
        detailed=detailed(report),
        overall=OVERALL,
        names=METRIC_NAMES,
        figures=figures,
    )


def report_page(report: Report) -> str:
    """Return the report as one HTML page with its figures inside."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    drawn: Any = open_templates(_TEMPLATES).get_template("figures.html.j2").module
    figures = {"coverage": drawn.coverage(report.conditions)}
    for number, condition in enumerate(detailed(report)):
        for name in ("f1", "precision", "calibration", "confusions"):
            figures[f"{number}-{name}"] = getattr(drawn, name)(condition)
    # This preset escapes HTML in the text: names come from untrusted files.
    parser = MarkdownIt("js-default")
    tokens = parser.parse(to_markdown(report, figures=True))
    for token in tokens:
        token.attrs.pop("style", None)
        for child in token.children or ():
            if child.type == "image":
                child.type, child.content = "html_inline", str(figures.get(str(child.attrs["src"]), ""))
    body = parser.renderer.render(tokens, parser.options, {})
    title = f"{report.model['name']} on {report.split}"
    return fill_template(_TEMPLATES / "report.html.j2", title=title, body=Markup(body))  # noqa: S704  escaped above


def detailed(report: Report) -> tuple[ConditionReport, ...]:
    """Return the conditions to show genre by genre; the first one if none of the usual ones applied."""
    usual = ("plot and poster", "plot only", "poster only")
    found = tuple(condition for condition in report.conditions if condition.name in usual)
    return found or report.conditions[:1]


def show(estimate: Estimate, sign: str = "") -> str:
    """Return an estimate as text: 0.712 (0.698–0.726), or with the sign "+" +0.041 (+0.030 to +0.052)."""
    if estimate.value is None:
        return "–"
    between = " to " if sign else "–"
    interval = "" if estimate.low is None else f" ({estimate.low:{sign}.3f}{between}{estimate.high:{sign}.3f})"
    return f"{estimate.value:{sign}.3f}{interval}"
