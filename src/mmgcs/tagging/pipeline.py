"""Tagging a whole table, so that a run that was killed goes on where it was.

Results are appended to a journal, `<out>.partial`, which is committed after each chunk. A run that is continued sends
the same chunks through the same graphs, so the output is the same byte for byte.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import mmgcs
from mmgcs.bundle import MANIFEST
from mmgcs.errors import MmgcsError, UsageError, printable
from mmgcs.files import atomic_path, check_free, sha256
from mmgcs.film import Film
from mmgcs.runtime.batch import Progress, Summary, predict_chunks
from mmgcs.runtime.classifier import Classifier
from mmgcs.tables import (
    CHUNK,
    FIXED,
    LISTS,
    WRITERS,
    FilmTable,
    Kept,
    json_line,
    kind_of,
    record,
    sources_of,
    write_list,
    write_table,
)
from mmgcs.tables.source import table_format
from mmgcs.tables.writers import read_records
from mmgcs.tagging.findings import FINDINGS, Judge, in_rank
from mmgcs.tagging.journal import Journal

RECORDS = "records.jsonl"
LARGEST_CHUNK = 8 * CHUNK
"""Films of a chunk of which only some are to be predicted."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of a run beyond tagging.

    Attributes:
        only_missing: leave the genres of films that have some.
        min_confidence: the confidence under which a film gets no genres; None for all that the bundle chooses.
        lists: a name in `FINDINGS` to the file that the list is written to.
        complete: fills in what films lack before they are predicted, such as an `Enricher`; None to leave them.
    """

    only_missing: bool = False
    min_confidence: float | None = None
    lists: Mapping[str, Path] = field(default_factory=dict)
    complete: Callable[[list[Film]], list[Film]] | None = None

    def wants(self, film: Film) -> bool:
        """Whether a film is to be predicted."""
        return not (self.only_missing and film.genres and film.problem is None)

    def completed(self, chunks: Iterator[list[Film]]) -> Iterator[list[Film]]:
        """Chunks in which the films that are to be predicted are completed."""
        for films in chunks:
            if self.complete is None:
                yield films
                continue
            filled = iter(self.complete([film for film in films if self.wants(film)]))
            yield [next(filled) if self.wants(film) else film for film in films]

    def chunks(self, chunks: Iterator[list[Film]]) -> Iterator[list[Film]]:
        """Chunks with enough films that are to be predicted: a graph is fast on full batches of like lengths."""
        if not self.only_missing:
            yield from chunks
            return
        films: list[Film] = []
        for chunk in chunks:
            films += chunk
            if len(films) >= LARGEST_CHUNK or sum(map(self.wants, films)) >= CHUNK // 2:
                yield films
                films = []
        if films:
            yield films


def tag_to_stream(
    classifier: Classifier,
    table: FilmTable,
    stream: IO[bytes],
    *,
    wishes: Wishes = Wishes(),
    progress: Progress | None = None,
) -> Summary:
    """Tag a table and write JSON lines to a stream as they come. Nothing can be resumed, and no list is made."""
    summary = Summary()
    started = time.monotonic()
    sources = sources_of(table.columns)
    judge = Judge(classifier, wishes.min_confidence)
    chunks = wishes.completed(wishes.chunks(table.chunks()))
    for films, predictions in predict_chunks(classifier, chunks, wants=wishes.wants):
        for film, raw in zip(films, predictions, strict=True):
            prediction = judge.settle(raw)
            summary.add(prediction)
            stream.write(json_line(record(film, prediction, sources)))
        stream.flush()
        summary.seconds = time.monotonic() - started
        if progress is not None:
            progress(summary.films, summary)
    return summary


def check_output(
    out: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    lists: Mapping[str, Path] = {},
) -> None:
    """Refuse outputs that cannot or must not be written, before any film is read.

    Raises:
        UsageError: an extension has no writer, a file exists, two are one, or an unfinished run of `out` exists.
    """
    WRITERS[table_format(out)[0]]
    unfinished = partial_folder(out).is_dir()
    taken = {os.path.realpath(out): "--out"}
    for name, path in lists.items():
        LISTS[table_format(path)[0]]
        other = taken.setdefault(os.path.realpath(path), f"--{name}")
        if other != f"--{name}":
            raise UsageError(f"{other} and --{name} are both {path}; give them different files")
    for name, path in {"out": out, **lists}.items():
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give --{name} a file such as {path / out.name}")
        check_free(path, f"--{name}", overwrite=overwrite or (resume and unfinished))
    if unfinished and not resume and not overwrite:
        raise UsageError(
            f"an unfinished run of {out} exists; give --resume to continue it, or --overwrite to begin again"
        )


def partial_folder(out: Path) -> Path:
    """Where an unfinished run of `out` keeps its work."""
    return out.with_name(f"{out.name}.partial")


def tag_table(
    classifier: Classifier,
    table: FilmTable,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    wishes: Wishes = Wishes(),
    progress: Progress | None = None,
) -> Summary:
    """Tag a table and write the result to `out`, whole or not at all.

    Args:
        classifier: the model.
        table: the films.
        out: a .jsonl, .csv, .tsv or .parquet file, `.gz` after the first three allowed.
        resume: continue an unfinished run where there is one.
        overwrite: replace `out`, and begin an unfinished run again.
        wishes: which films to tag, how sure to be, and which lists to write.
        progress: told after each chunk.

    Raises:
        UsageError: as `check_output`; the unfinished run was of something else; or another process is at it.
        MmgcsError: the disk takes no more; what was done can be continued.
    """
    check_output(out, overwrite=overwrite, resume=resume, lists=wishes.lists)
    partial = partial_folder(out)
    logs = (RECORDS, *(f"{name}.jsonl" for name in wishes.lists))
    with Journal.open(partial, _fingerprint(classifier, table, wishes), logs, afresh=not resume) as journal:
        summary, kinds = _tag(classifier, table, journal, wishes, progress)
        try:
            _publish(classifier, table, out, journal, wishes, kinds)
        except OSError as error:
            raise MmgcsError(
                f"{out} cannot be written ({error.strerror}); mend that and go on with --resume"
            ) from error
        journal.finish()
    return summary


def _tag(
    classifier: Classifier, table: FilmTable, journal: Journal, wishes: Wishes, progress: Progress | None
) -> tuple[Summary, dict[str, list[str]]]:
    """Write the journal to its end. Returns the summary, and the kinds of value of each kept column."""
    summary = Summary(**journal.state.get("summary", {}))
    kinds: dict[str, list[str]] = journal.state.get("columns", {})
    judge = Judge(classifier, wishes.min_confidence)
    findings = {name: FINDINGS[name] for name in wishes.lists}
    sources = sources_of(table.columns)
    started = time.monotonic() - summary.seconds
    chunks = wishes.completed(_after(wishes.chunks(table.chunks()), summary.films))
    for films, predictions in predict_chunks(classifier, chunks, wants=wishes.wants):
        for film, raw in zip(films, predictions, strict=True):
            prediction = judge.settle(raw)
            row = record(film, prediction, sources)
            _note_kinds(row, kinds)
            journal.write(RECORDS, json_line(row))
            summary.add(prediction)
            for name, finding in findings.items():
                rows = finding.find(film, raw, judge)
                summary.found[name] = summary.found.get(name, 0) + len(rows)
                for found in rows:
                    journal.write(f"{name}.jsonl", json_line(found))
        summary.seconds = time.monotonic() - started
        journal.commit({"summary": asdict(summary), "columns": kinds})
        if progress is not None:
            progress(summary.films, summary)
    return summary, kinds


def _after(chunks: Iterator[list[Film]], films: int) -> Iterator[list[Film]]:
    # Finished chunks are read again, not predicted: the reader must know their ids to tell duplicates.
    done = 0
    for chunk in chunks:
        if done >= films:
            yield chunk
        done += len(chunk)


def _note_kinds(row: Mapping[str, Any], kinds: dict[str, list[str]]) -> None:
    for name, value in row.items():
        if name not in FIXED:
            seen = kinds.setdefault(name, [])
            kind = kind_of(value)
            if kind is not None and kind not in seen:
                seen.append(kind)


def _publish(
    classifier: Classifier,
    table: FilmTable,
    out: Path,
    journal: Journal,
    wishes: Wishes,
    kinds: Mapping[str, list[str]],
) -> None:
    """Write the outputs within the journal's folder, where a kill leaves nothing for good, and move them out."""
    done = journal.folder / "done"
    order = [name for name in table.columns if name in kinds]
    columns = {name: sorted(kinds[name]) for name in dict.fromkeys([*order, *kinds])}
    write_table(journal.folder / RECORDS, done / "out" / out.name, Kept(classifier.genres, columns))
    for name, path in wishes.lists.items():
        log, finding = journal.folder / f"{name}.jsonl", FINDINGS[name]
        write_list(in_rank(log) if finding.ranked else read_records(log), done / name / path.name, finding.columns)
    for name, path in {**wishes.lists, "out": out}.items():  # the table last: it says that all is there
        _move(done / name / path.name, path)


def _move(finished: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        finished.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic_path(path) as temporary:  # on another disk
            shutil.copyfile(finished, temporary)


def _fingerprint(classifier: Classifier, table: FilmTable, wishes: Wishes) -> dict[str, Any]:
    return {
        "films": sha256(table.path),
        "posters folder": printable(str(table.posters.resolve())),
        "model": sha256(classifier.bundle.path / MANIFEST),
        "version of mmgcs": mmgcs.__version__,
        "size of chunk": CHUNK,
        "set of --only-missing, --min-confidence, lists or --enrich": [
            wishes.only_missing,
            wishes.min_confidence,
            sorted(wishes.lists),
            wishes.complete is not None,
        ],
    }
