"""Tagging a whole table: chunk by chunk, in order, in constant memory, and able to go on after a kill.

While a chunk runs through the graphs, threads read and decode the posters of the next. Results are appended to
`<out>.partial/records.jsonl`, and after each chunk `state.json` says how far that file is good. A run that was killed
is continued from there: the same chunks go through the same graphs, so the output is the same byte for byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import mmgcs
from mmgcs.bundle import MANIFEST
from mmgcs.catalog import CHUNK, FilmTable, Kept, json_line, kind_of, record, sources_of, write_table
from mmgcs.catalog.records import FIXED
from mmgcs.catalog.source import table_format
from mmgcs.catalog.writers import WRITERS
from mmgcs.errors import UsageError
from mmgcs.files import sha256, write_json
from mmgcs.film import Film, Prediction
from mmgcs.runtime.classifier import Classifier, PreparedFilm

GROUP = 32
"""Films that a thread prepares at once."""

STATE = "state.json"
RECORDS = "records.jsonl"


@dataclass(slots=True)
class Summary:
    """What a run did.

    Attributes:
        films: films written.
        errors: films in error, by the error with its particulars (paths, numbers, names) left out.
        warnings: films with at least one warning.
        unsure: films whose prediction is not sure.
        genres: genre to the number of films it was chosen for.
        seconds: time spent, over all parts of a run that was continued.
    """

    films: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    warnings: int = 0
    unsure: int = 0
    genres: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def in_error(self) -> int:
        """Films in error."""
        return sum(self.errors.values())

    def add(self, prediction: Prediction) -> None:
        """Count one film."""
        self.films += 1
        if prediction.error is not None:
            kind = error_kind(prediction.error)
            self.errors[kind] = self.errors.get(kind, 0) + 1
        elif not prediction.sure:
            self.unsure += 1
        self.warnings += bool(prediction.warnings)
        for genre in prediction.genres:
            self.genres[genre] = self.genres.get(genre, 0) + 1

    def lines(self) -> list[str]:
        """The summary for a person, a line each."""
        rate = f", {self.films / self.seconds:.0f} a second" if self.seconds > 0 else ""
        lines = [
            f"{self.films:,} films in {self.seconds:.1f} s{rate}: {self.in_error:,} in error, "
            f"{self.unsure:,} not sure, {self.warnings:,} with a warning"
        ]
        if self.genres:
            ranked = Counter(self.genres).most_common()
            lines.append("genres: " + ", ".join(f"{genre} {count:,}" for genre, count in ranked))
        lines += [f"error in {count:,}: {kind}" for kind, count in Counter(self.errors).most_common(20)]
        return lines


def error_kind(error: str) -> str:
    """An error without what differs from film to film, so that like errors can be counted together.

    >>> error_kind("the poster /a/b.jpg does not exist; check the path")
    'the poster … does not exist'
    """
    import re

    text = error.split("; ")[0]
    text = re.sub(r"the poster (?:'[^']*'|\S*[/.\\]\S*)", "the poster …", text)
    text = re.sub(r"\(.*\)", "", text)
    return " ".join(re.sub(r"\d[\d,]*", "…", text).split())


Progress = Callable[[int, Summary], None]
"""Told after each chunk the number of films done and the summary so far."""


def predict_chunks(
    classifier: Classifier, chunks: Iterator[list[Film]], *, workers: int | None = None
) -> Iterator[tuple[list[Film], list[Prediction]]]:
    """Predict chunks of films in order, preparing one chunk ahead of the graphs.

    Args:
        classifier: the model.
        chunks: films, a chunk at a time; asked for at most two chunks ahead of what was taken.
        workers: threads that read plots and decode posters; None for one a core.
    """
    with ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="mmgcs-prepare") as pool:
        waiting: deque[tuple[list[Film], list[Future[list[PreparedFilm]]]]] = deque()
        try:
            for films in chunks:
                groups = [films[start : start + GROUP] for start in range(0, len(films), GROUP)]
                waiting.append((films, [pool.submit(classifier.prepare, group) for group in groups]))
                if len(waiting) == 2:
                    yield _finish(classifier, *waiting.popleft())
            while waiting:
                yield _finish(classifier, *waiting.popleft())
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def _finish(
    classifier: Classifier, films: list[Film], futures: list[Future[list[PreparedFilm]]]
) -> tuple[list[Film], list[Prediction]]:
    features = classifier.features_of([prepared for future in futures for prepared in future.result()])
    return films, classifier.decide(classifier.logits(features), features)


def tag_to_stream(
    classifier: Classifier, table: FilmTable, stream: IO[bytes], *, progress: Progress | None = None
) -> Summary:
    """Tag a table and write JSON lines to a stream as they come. Nothing can be resumed."""
    summary = Summary()
    started = time.monotonic()
    sources = sources_of(table.columns)
    for films, predictions in predict_chunks(classifier, table.chunks()):
        for film, prediction in zip(films, predictions, strict=True):
            summary.add(prediction)
            stream.write(json_line(record(film, prediction, sources)))
        stream.flush()
        summary.seconds = time.monotonic() - started
        if progress is not None:
            progress(summary.films, summary)
    return summary


def check_output(out: Path, *, overwrite: bool = False, resume: bool = False) -> None:
    """Refuse an output that cannot or must not be written, before any film is read.

    Raises:
        UsageError: the extension has no writer, `out` exists, or an unfinished run of it does.
    """
    WRITERS[table_format(out)[0]]
    if out.is_dir():
        raise UsageError(f"{out} is a folder; give --out a file such as {out / 'tagged.jsonl'}")
    if out.exists() and not overwrite and not (resume and partial_folder(out).is_dir()):
        raise UsageError(f"{out} exists; give --overwrite to replace it, or another --out")
    if partial_folder(out).is_dir() and not resume and not overwrite:
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
    progress: Progress | None = None,
) -> Summary:
    """Tag a table and write the result to `out`, whole or not at all.

    Args:
        classifier: the model.
        table: the films.
        out: a .jsonl, .csv or .parquet file, `.gz` after the first two allowed.
        resume: continue an unfinished run where there is one.
        overwrite: replace `out`, and begin an unfinished run again.
        progress: told after each chunk.

    Raises:
        UsageError: as `check_output`; or the unfinished run was of other films, another model or another version.
    """
    check_output(out, overwrite=overwrite, resume=resume)
    partial = partial_folder(out)
    if partial.is_dir() and not resume:
        shutil.rmtree(partial)
    run = _Run.open(partial, _fingerprint(classifier, table))
    sources = sources_of(table.columns)
    started = time.monotonic() - run.summary.seconds
    with contextlib.closing(run):
        chunks = _after(table.chunks(), run.summary.films)
        for films, predictions in predict_chunks(classifier, chunks):
            for film, prediction in zip(films, predictions, strict=True):
                run.write(record(film, prediction, sources))
                run.summary.add(prediction)
            run.summary.seconds = time.monotonic() - started
            run.commit()
            if progress is not None:
                progress(run.summary.films, run.summary)
    columns = {name: sorted(kinds) for name, kinds in run.columns.items()}
    write_table(partial / RECORDS, out, Kept(classifier.genres, columns))
    shutil.rmtree(partial)
    return run.summary


def _after(chunks: Iterator[list[Film]], films: int) -> Iterator[list[Film]]:
    # Finished chunks are read again, not predicted: the reader must know their ids to tell duplicates.
    done = 0
    for chunk in chunks:
        if done >= films:
            yield chunk
        done += len(chunk)


def _fingerprint(classifier: Classifier, table: FilmTable) -> dict[str, Any]:
    return {
        "input": sha256(table.path),
        "posters": str(table.posters.resolve()),
        "model": sha256(classifier.bundle.path / MANIFEST),
        "mmgcs": mmgcs.__version__,
        "chunk": CHUNK,
    }


class _Run:
    """An unfinished run on disk: records, and how many of their bytes are good."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any]) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.summary = Summary()
        self.columns: dict[str, set[str]] = {}
        self._bytes = 0
        self._handle: IO[bytes] | None = None

    @classmethod
    def open(cls, folder: Path, fingerprint: dict[str, Any]) -> _Run:
        """Begin a run, or continue the one in `folder`."""
        run = cls(folder, fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        state = folder / STATE
        if state.exists():
            run._continue(json.loads(state.read_text(encoding="utf-8")))
        run._handle = (folder / RECORDS).open("ab")
        run._handle.truncate(run._bytes)
        return run

    def _continue(self, state: dict[str, Any]) -> None:
        what = {"input": "films", "posters": "posters folder", "model": "model", "mmgcs": "version of mmgcs"}
        for key, value in self.fingerprint.items():
            if state["fingerprint"].get(key) != value:
                raise UsageError(
                    f"the unfinished run in {self.folder} had another {what.get(key, key)}; "
                    f"give --overwrite to begin again, or what it was begun with"
                )
        self.summary = Summary(**state["summary"])
        self.columns = {name: set(kinds) for name, kinds in state["columns"].items()}
        self._bytes = state["bytes"]

    def write(self, row: dict[str, Any]) -> None:
        """Append one film's record."""
        assert self._handle is not None
        line = json_line(row)
        self._handle.write(line)
        self._bytes += len(line)
        for name, value in row.items():
            if name not in FIXED:
                kinds = self.columns.setdefault(name, set())
                kind = kind_of(value)
                if kind is not None:
                    kinds.add(kind)

    def commit(self) -> None:
        """Make what was written last, in the order that a power cut respects: records first, then the state."""
        assert self._handle is not None
        self._handle.flush()
        os.fsync(self._handle.fileno())
        columns = {name: sorted(kinds) for name, kinds in self.columns.items()}
        state = {"fingerprint": self.fingerprint, "bytes": self._bytes, "columns": columns}
        write_json(self.folder / STATE, {**state, "summary": asdict(self.summary)})

    def close(self) -> None:
        """Close the file of records."""
        if self._handle is not None:
            self._handle.close()
