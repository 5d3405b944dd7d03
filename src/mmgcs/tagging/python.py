"""`mmgcs.tag`: tag a file, or a frame of polars, pandas or Arrow, from Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

import polars as pl

from mmgcs.errors import UsageError
from mmgcs.film import Film
from mmgcs.runtime import Classifier, load
from mmgcs.tables import ANSWER_COLUMNS, CHUNK, FilmTable, RecordBuilder, Row, RowReader, check_sources, to_frame
from mmgcs.tagging.pipeline import Pipeline, TagOptions, TagProgress, TagSummary
from mmgcs.tagging.sinks import RowSink, is_finished, tag_table


def tag(
    films: Any,
    out: str | Path | None = None,
    *,
    model: Classifier | str | Path | None = None,
    posters: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    only_missing: bool = False,
    min_confidence: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: TagProgress | None = None,
) -> Any:
    """Tag a table of films: a file into another file, or a frame into a frame.

    >>> import mmgcs, polars
    >>> films = polars.DataFrame({"title": ["Ash Hill"], "plot": ["A ghost haunts an old house in the woods."]})
    >>> mmgcs.tag(films)["genres"].to_list()[0][0]
    'Horror'

    Args:
        films: a path, or a frame of polars or pandas, or a table of Arrow.
        out: the file to write, for a path; by its extension CSV, TSV, JSON lines or Parquet.
        model: a classifier, or a bundle's folder; by default the shipped bundle.
        posters: the folder of posters; by default the folder of the file, or the current one for a frame.
        columns: a film's field to the column it is read from, such as `{"plot": "synopsis"}`.
        only_missing: keep the genres of films that have some.
        min_confidence: give no genres to films with a lower confidence.
        resume: for a path, continue an unfinished run; a finished one is left as it is.
        overwrite: for a path, replace `out`.
        progress: called after each chunk with the counts so far.

    Returns:
        For a path a `TagSummary`. For a frame one of the same kind: its rows and columns, and appended `genres`,
        `probabilities`, `confidence`, `sure`, `error`, `warnings` and `inputs`.

    Raises:
        UsageError: the films or the arguments cannot be used.
    """
    classifier = model if isinstance(model, Classifier) else load(model)
    options = TagOptions(only_missing, min_confidence)
    if isinstance(films, str | Path):
        if out is None:
            raise UsageError("out is missing; give the file to write the tagged films to")
        path, target = Path(films), Path(out)
        if resume and not overwrite and is_finished(target, {}, path):
            return TagSummary()
        table = FilmTable(path, posters=posters, columns=columns)
        return tag_table(
            classifier, table, target, resume=resume, overwrite=overwrite, options=options, progress=progress
        )
    if out is not None:
        raise UsageError("out is for a file of films; leave it out for a frame, which is returned")
    names, rows = _read_frame(films)
    check_sources(names, columns or {}, "the frame")
    records = RecordBuilder(names, classifier.genres)
    reader = RowReader(names, Path.cwd() if posters is None else Path(posters), columns)
    if only_missing and "genres" not in reader.sources:
        raise UsageError(f"only_missing needs a column of genres; the frame has {', '.join(names)}")
    answers: list[dict[str, Any]] = []
    Pipeline(classifier, options).run(_films(reader, rows), RowSink(records, answers.append, options), progress)
    return _append(films, records, answers)


def _read_frame(frame: Any) -> tuple[list[str], Iterable[Mapping[str, Any]]]:
    """Return the columns of a frame and an iterator of its rows."""
    kind = type(frame).__module__.partition(".")[0]
    if isinstance(frame, pl.DataFrame):
        return frame.columns, frame.iter_rows(named=True)
    if kind == "pyarrow" and hasattr(frame, "column_names"):
        return frame.column_names, cast("pl.DataFrame", pl.from_arrow(frame)).iter_rows(named=True)
    if kind == "pandas" and hasattr(frame, "itertuples"):
        names = [str(name) for name in frame.columns]
        if len(set(names)) < len(names):
            raise UsageError("the frame has two columns of the same name; rename one")
        plain = frame.astype(object).where(frame.notna(), None)  # pandas has several values for a missing one
        return names, (dict(zip(names, row, strict=True)) for row in plain.itertuples(index=False, name=None))
    raise UsageError(f"cannot tag a {type(frame).__name__}; give a path, or a frame of polars, pandas or Arrow")


def _films(reader: RowReader, rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Film]]:
    remaining = enumerate(rows, 1)
    while chunk := list(islice(remaining, CHUNK)):
        yield [reader.film(Row(dict(row)), number) for number, row in chunk]


def _append(frame: Any, records: RecordBuilder, rows: list[dict[str, Any]]) -> Any:
    """Rename the columns of a frame as in `records`, and append the predictions in `rows`."""
    answers = to_frame(rows, records.types)
    names = list(records.columns.values())
    if isinstance(frame, pl.DataFrame):
        return frame.rename(dict(zip(frame.columns, names, strict=True))).hstack(answers)
    if hasattr(frame, "rename_columns"):  # Arrow
        result = frame.rename_columns(names)
        for name, column in zip(ANSWER_COLUMNS, answers.to_arrow().columns, strict=True):
            result = result.append_column(name, column)
        return result
    return frame.set_axis(names, axis="columns").assign(**{name: answers[name].to_list() for name in ANSWER_COLUMNS})
