"""`mmgcs data inspect`: one HTML page about a table of films, which needs no other file and no network."""

from __future__ import annotations

from html import escape
from pathlib import Path

from mmgcs.datasets.base import SOURCES, detect_source
from mmgcs.datasets.charts import draw_charts, svg
from mmgcs.datasets.summary import Summary, summarise
from mmgcs.files import atomic_writer

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }
figure { margin: 2rem 0; overflow-x: auto } figcaption { margin-bottom: .5rem } svg { max-width: 100%; height: auto }
table { border-collapse: collapse } th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child { text-align: left }
"""


def inspect_films(path: Path, out: Path | None, source: str = "auto") -> Summary:
    """Write a page with charts of a data set's genres, co-occurrence, lengths, years, missing parts and duplicates.

    Args:
        path: a table of films, or a data set that a reader knows.
        out: the page to write; None for none.
        source: the reader, or "auto".

    Raises:
        InputError: the data set cannot be read.
    """
    raw = SOURCES[detect_source(path) if source == "auto" else source].read(path)
    summary = summarise(raw.frame)
    if out is not None:
        with atomic_writer(out) as handle:
            handle.write(page(summary, path.name, raw.broken))
    return summary


def page(summary: Summary, name: str, broken: int = 0) -> str:
    """The page as HTML."""
    figures = "\n".join(
        f'<figure id="{escape(key)}"><figcaption>{escape(caption)}</figcaption>{svg(figure)}</figure>'
        for key, (caption, figure) in draw_charts(summary).items()
    )
    facts = f"{summary.films:,} films, {len(summary.genres)} genres" + (
        f", {broken:,} broken records" if broken else ""
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(name)}</h1><p>{facts}</p>\n"
        f"{_split_table(summary)}\n{figures}\n</body></html>\n"
    )


def _split_table(summary: Summary) -> str:
    if not summary.splits:
        return "<p>The films have no splits.</p>"
    names = list(summary.splits)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(genre)}</th>'
        + "".join(f"<td>{summary.splits[name].get(genre, 0):,}</td>" for name in names)
        + "</tr>"
        for genre in ("films", *summary.genres)
    )
    return f'<table><caption>Films of each split</caption><tr><th scope="col"></th>{head}</tr>{rows}</table>'
