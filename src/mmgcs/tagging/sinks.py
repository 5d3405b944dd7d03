"""Write predictions to a function (`RowSink`), a file (`FileSink`), or a folder of Parquet parts (`FolderSink`).

During a run, a `FileSink` writes the predictions of every few chunks as a part, a file of JSON lines in
`<out>.partial`. The name of a part has its SHA-256, so a damaged part is noticed and predicted again. At the end, the
table is read once more and joined with the parts. A resumed run sends the same chunks through the same graphs, so its
output is the same, byte for byte.
"""

from __future__ import annotations

import bisect
import contextlib
import gzip
import hashlib
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import polars as pl

from mmgcs.bundle import MANIFEST
from mmgcs.errors import MmgcsError, UsageError, printable
from mmgcs.files import LOCK, atomic_writer, check_free, lock_folder, remove_parts, remove_parts_of, sha256, write_json
from mmgcs.film import Film, Prediction
from mmgcs.runtime import Classifier
from mmgcs.tables import (
    CHUNK,
    WRITERS,
    FilmTable,
    Folder,
    RecordBuilder,
    find_tables,
    infer_types,
    is_remote,
    json_line,
    normal_address,
    table_format,
    write_table,
)
from mmgcs.tagging.lists import FILM_LISTS
from mmgcs.tagging.pipeline import Pipeline, Sink, TagOptions, TagProgress, TagSummary
from mmgcs.version import __version__

LOG = logging.getLogger(__name__)

RUN = "run.json"
"""The file in `<out>.partial` that identifies the run."""
PART_FILMS = 16 * CHUNK
PART_SECONDS = 15.0
"""A part is written after this many films or seconds."""
NOTES = "_parts"
"""The folder of notes on finished parts; readers of Parquet folders skip names that begin with an underscore."""
_OURS = re.compile(rf"_run\.json|manifest\.json|{NOTES}|part-\d+\.parquet|\..+\.part")
"""The names in the folder of a `FolderSink`, with the temporary files of a run that was killed."""


class RowSink(Sink):
    """Passes each output row to a function. Runs cannot be resumed, and no lists are written."""

    def __init__(
        self, records: RecordBuilder, write: Callable[[dict[str, Any]], Any], options: TagOptions = TagOptions()
    ) -> None:
        self._records = records
        self._write = write
        self._options = options

    def write(self, films: list[Film], predictions: list[Prediction]) -> None:
        """Write the rows of a chunk."""
        for film, prediction in zip(films, predictions, strict=True):
            self._write(self._records.build(film.record, self._options.settle(prediction)))


def tag_table(
    classifier: Classifier,
    table: FilmTable,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    options: TagOptions = TagOptions(),
    progress: TagProgress | None = None,
) -> TagSummary:
    """Tag a table and write the result to `out`, whole or not at all.

    Args:
        classifier: the model.
        table: the films.
        out: a file of any format in `WRITERS`, which may end in `.gz` or `.zst`; or, for a table of several files, a
            folder, which gets a file of the same name for each.
        resume: True to resume an unfinished run if there is one.
        overwrite: True to replace `out`, and to restart an unfinished run.
        options: the options of the run.
        progress: called after each chunk.

    Raises:
        UsageError: as `check_output`; the unfinished run is a different one; or another process is writing `out`.
        MmgcsError: the disk is full; the run can be resumed.
    """
    check_output(out, overwrite=overwrite, resume=resume, lists=options.lists)
    with open_file_sink(table, out, classifier, options, resume=resume) as sink:
        return Pipeline(classifier, options).run(table.chunks(), sink, progress)


def check_output(
    out: Path, *, overwrite: bool = False, resume: bool = False, lists: Mapping[str, Path] | None = None
) -> None:
    """Check, before any film is read, that the outputs may be written.

    Raises:
        UsageError: an extension has no writer, a file exists, two are the same, or an unfinished run of `out` exists.
    """
    unfinished = partial_folder(out).is_dir()
    replace = overwrite or (resume and unfinished)
    taken: dict[str, str] = {}
    for name, path in {"out": out, **(lists or {})}.items():
        if is_remote(path):
            raise UsageError(
                f"--{name} {normal_address(path)} is not a file on this machine; only --engine ray writes elsewhere"
            )
        if name == "out" and _is_folder(path):
            if path.is_dir() and any(path.iterdir()) and not replace:
                raise UsageError(f"{path} exists; give --overwrite to replace its files, or another --out")
            continue
        WRITERS[table_format(path)[0]]
        other = taken.setdefault(os.path.realpath(path), f"--{name}")
        if other != f"--{name}":
            raise UsageError(f"{other} and --{name} are both {path}; give them different files")
        check_free(path, f"--{name}", overwrite=replace)
    if unfinished and not resume and not overwrite:
        raise UsageError(f"{out} has an unfinished run; resume it with --resume, or start again with --overwrite")


def _is_folder(out: Path) -> bool:
    return table_format(out)[0] == ""


def partial_folder(out: Path) -> Path:
    """Return the folder that holds the parts of an unfinished run."""
    return out.with_name(f"{out.name}.partial")


def is_finished(out: Path, lists: Mapping[str, Path], films: Path) -> bool:
    """Return True if `out` and the lists are complete and newer than the films.

    Raises:
        UsageError: the films have changed since.
    """
    written = any(out.iterdir()) if out.is_dir() else out.is_file()
    if partial_folder(out).is_dir() or not written or not all(path.is_file() for path in lists.values()):
        return False
    files = [] if films == Path("-") else find_tables(films)
    if any(file.changed_since(out.stat().st_mtime) for file in files if Path(file.address) != out):
        changed = f"{normal_address(films)} was changed, moved or given other permissions after {out} was written"
        raise UsageError(f"{changed}; tag it again with --overwrite")
    return True


def check_needed_columns(table: FilmTable, options: TagOptions) -> None:
    """Raise UsageError if the table lacks a column that the options need."""
    if options.only_missing and "genres" not in table.sources:
        raise UsageError(f"--only-missing needs a column of genres; {table.path} has {', '.join(table.columns)[:300]}")


def _fingerprint(table: FilmTable, classifier: Classifier, options: TagOptions = TagOptions()) -> dict[str, Any]:
    """Return what must be unchanged when a run is resumed."""
    posters = table.posters
    return {
        "table of films": table.fingerprint(),
        "set of columns": dict(table.sources),
        "posters folder": printable(str(posters.resolve())) if isinstance(posters, Path) else posters.address,
        "model": sha256(classifier.bundle.path / MANIFEST),
        "version of mmgcs": __version__,
        "chunk size": CHUNK,
        "setting of --only-missing": options.only_missing,
        "setting of --enrich": options.complete is not None,
    }


@contextlib.contextmanager
def open_file_sink(
    table: FilmTable,
    out: Path,
    classifier: Classifier,
    options: TagOptions = TagOptions(),
    *,
    resume: bool = False,
) -> Iterator[FileSink]:
    """Yield a sink that writes to a file, which is locked until the block ends; see `tag_table` for the arguments.

    Without `resume`, an unfinished run is deleted. If the block raises an error, what was predicted is saved.

    Raises:
        UsageError: the table lacks a column that the options need, its files cannot go into the folder `out`, the
            unfinished run is a different one, or another process is writing the same output.
    """
    check_needed_columns(table, options)
    _check_inputs(table, {"out": out, **options.lists})
    if _is_folder(out):
        _check_folder(table, out)
    folder = partial_folder(out)
    with contextlib.ExitStack() as lock:
        lock.callback(_remove_if_empty, folder)
        try:
            lock.enter_context(lock_folder(folder, str(out)))
        except OSError as error:
            raise UsageError(f"cannot create {folder} ({error.strerror}); choose another --out") from error
        sink = FileSink(table, out, classifier, options, resume=resume)
        try:
            yield sink
        except BaseException:
            with contextlib.suppress(OSError, MmgcsError):
                sink.write_part()
            raise
        finally:
            if folder.is_dir() and not sink.parts:
                _empty(folder)  # nothing to resume


class FileSink(Sink):
    """Writes a table's predictions to a file; see `open_file_sink`.

    Attributes:
        parts: the parts written so far, in order.
    """

    def __init__(
        self, table: FilmTable, out: Path, classifier: Classifier, options: TagOptions, *, resume: bool
    ) -> None:
        self._table, self._out, self._classifier, self._options = table, out, classifier, options
        self._folder = partial_folder(out)
        self._waiting: list[tuple[Film, Prediction]] = []
        self._since = time.monotonic()
        run, fingerprint = self._folder / RUN, _fingerprint(table, classifier, options)
        with self._resumable():
            if resume and run.exists():
                try:
                    found = json.loads(run.read_text(encoding="utf-8"))
                except ValueError:
                    raise UsageError(f"{run} is damaged; start again with --overwrite") from None
                _check_same(found, fingerprint, self._folder)
            else:
                _empty(self._folder)
                write_json(run, fingerprint)
            remove_parts(self._folder, "*")
            for path in (out, *options.lists.values()):
                remove_parts_of(path)
            self.parts = _intact_parts(self._folder)

    def resume(self) -> TagSummary:
        """Return the counts of the parts written so far."""
        summary = TagSummary()
        for part in self.parts:
            for prediction, _ in _read_part(part):
                summary.add(self._options.settle(prediction))
        return summary

    def write(self, films: list[Film], predictions: list[Prediction]) -> None:
        """Add a chunk, and write a part after enough films or time.

        Raises:
            MmgcsError: the disk is full; the run can be resumed.
        """
        self._waiting += zip(films, predictions, strict=True)
        if len(self._waiting) >= PART_FILMS or time.monotonic() - self._since >= PART_SECONDS:
            self.write_part()

    def write_part(self) -> None:
        """Write the films that wait as a part."""
        if not self._waiting:
            return
        completed = self._options.complete is not None
        rows = [prediction.to_dict() | ({"plot": film.plot} if completed else {}) for film, prediction in self._waiting]
        data = gzip.compress("\n".join(map(json.dumps, rows)).encode(), compresslevel=1, mtime=0)
        part = self._folder / f"part-{len(self.parts):06}-{hashlib.sha256(data).hexdigest()[:16]}.gz"
        with self._resumable(), atomic_writer(part, "wb") as handle:
            handle.write(data)
        self.parts.append(part)
        self._waiting, self._since = [], time.monotonic()

    def finish(self, summary: TagSummary) -> None:
        """Write the lists and, last of all, the output.

        Raises:
            MmgcsError: the disk is full, and the run can be resumed; or the table changed during the run.
        """
        self.write_part()
        with self._resumable():
            for name, path in self._options.lists.items():
                rows = self._list_rows(name, summary)
                ranked = FILM_LISTS[name].ranked
                write_table(_ranked(rows, self._folder) if ranked else rows, path, FILM_LISTS[name].types)
            self._write_output()
            _empty(self._folder)
        self.parts = []

    def _tagged(self) -> Iterator[tuple[Film, Prediction, str | None, int]]:
        """Yield each film of the table, its prediction, its plot if films are completed, and the index of its file."""
        table = self._table.reopen()
        films = (film for chunk in table.chunks(fetch=False) for film in chunk)
        rows = (row for part in self.parts for row in _read_part(part))
        for number, (film, row) in enumerate(itertools.zip_longest(films, rows)):
            if film is None or row is None:
                raise MmgcsError(f"{self._table.path} changed while it was tagged; run again with --overwrite")
            yield film, *row, bisect.bisect_right(table.ends, number)

    def _write_output(self) -> None:
        several = _is_folder(self._out)
        plot_column = self._table.sources.get("plot", "plot")
        left_out = self._table.partition if several else ()  # they are in the names of the folders
        columns = [name for name in self._table.columns if name not in left_out]
        if self._options.complete is not None and plot_column not in columns:
            columns.append(plot_column)
        records = RecordBuilder(columns, self._classifier.genres)

        def rows() -> Iterator[tuple[int, dict[str, Any]]]:
            for film, prediction, plot, file in self._tagged():
                looked_up = {} if plot is None or film.plot is not None else {plot_column: plot}
                record = {name: value for name, value in film.record.items() if name not in left_out} | looked_up
                yield file, records.build(record, self._options.settle(prediction))

        types = self._table.types
        if types is None:  # JSON lines: any row may have further columns
            is_json = not several and WRITERS[table_format(self._out)[0]] is WRITERS[".jsonl"]
            found = {} if is_json else infer_types((row for _, row in rows()), records.columns.values())
            input_types = {name: kind for name, kind in found.items() if name not in records.types}
        else:
            input_types = {records.columns[name]: types.get(name, pl.String()) for name in columns}
        types = {**input_types, **records.types}
        if not several:
            write_table((row for _, row in rows()), self._out, types)
            return
        done = self._folder / "done"
        for file, group in itertools.groupby(rows(), itemgetter(0)):
            write_table((row for _, row in group), done / self._table.files[file].below, types)
        for below in (done / table.below for table in self._table.files):
            if not below.exists():  # it has no films
                write_table([], below, types)
        if self._out.is_dir():
            self._out.replace(self._folder / "replaced")
        done.replace(self._out)

    def _list_rows(self, name: str, summary: TagSummary) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, and count them."""
        decisions = self._classifier.bundle.config.decisions
        least = {inputs: decision.confidence for inputs, decision in decisions.items()}
        if self._options.min_confidence is not None:
            least = dict.fromkeys(least, self._options.min_confidence)
        summary.found[name] = 0
        for film, prediction, *_ in self._tagged():
            rows = FILM_LISTS[name].rows(film, prediction, least.get("+".join(prediction.inputs), 0.0))
            summary.found[name] += len(rows)
            yield from rows

    @contextlib.contextmanager
    def _resumable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MmgcsError(
                f"cannot write {self._out} ({error.strerror or error}); free space, then resume with --resume"
            ) from error


def _check_same(found: Mapping[str, Any], fingerprint: Mapping[str, Any], place: object) -> None:
    for what, value in fingerprint.items():
        if found.get(what) != value:
            raise UsageError(
                f"the run in {place} had a different {what}; use the same one again, or start again with --overwrite"
            )


def _check_inputs(table: FilmTable, outputs: Mapping[str, str | Path]) -> None:
    """Raise UsageError if an output is among the films, as that of an earlier run in the same folder would be."""

    def place(address: str | Path) -> PurePath:
        return PurePosixPath(address) if is_remote(address) else Path(address).resolve()

    inputs = [place(file.address) for file in table.files]
    for name, path in outputs.items():
        if any(file.is_relative_to(place(path)) for file in inputs):
            raise UsageError(f"{normal_address(path)} is itself read as a table of films; choose another --{name}")


def _check_folder(table: FilmTable, out: Path) -> None:
    """Raise UsageError if the table's files cannot be written to a folder, or it holds other files."""
    if len(table.files) == 1 and not table.partition:
        example = out / "tagged.csv"
        raise UsageError(f"--out {out} names a folder, but there is one table; give a file such as {example}")
    for file in table.files:
        WRITERS[file.format]
    there = {path.relative_to(out) for path in out.rglob("*") if not path.is_dir()}
    other = min(there - {Path(file.below) for file in table.files}, default=None)
    if other is not None:
        raise UsageError(f"{out} holds other files, such as {other}; choose another --out")


def _read_part(part: Path) -> Iterator[tuple[Prediction, str | None]]:
    """Yield each film's prediction, and its plot if films are completed."""
    for line in gzip.decompress(part.read_bytes()).splitlines():
        row: dict[str, Any] = json.loads(line)
        row |= {name: tuple(value) for name, value in row.items() if isinstance(value, list)}
        plot = row.pop("plot", None)
        yield Prediction(**row), plot


def _intact_parts(folder: Path) -> list[Path]:
    """Return the parts before the first one that is missing or damaged, and delete the others."""
    parts: list[Path] = []
    found = sorted(folder.glob("part-*.gz"))
    for path in found:
        _, number, digest = path.stem.split("-")
        if int(number) != len(parts) or not sha256(path).startswith(digest):
            LOG.warning("%s is damaged, or the part before it is missing; films from there on are tagged again", path)
            break
        parts.append(path)
    for path in found[len(parts) :]:
        path.unlink()
    return parts


def _ranked(rows: Iterable[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield rows sorted by `score`, lowest first, with their `rank`; only the scores are kept in memory."""
    scores, places = array("d"), array("q")  # a list of tuples would take six times the memory
    with tempfile.TemporaryFile(dir=folder) as log:
        for row in rows:
            scores.append(row["score"])
            places.append(log.tell())
            log.write(json_line(row))
        for rank, index in enumerate(np.argsort(np.asarray(scores), kind="stable"), 1):
            log.seek(places[index])
            yield {"rank": rank, **json.loads(log.readline())}


def _empty(folder: Path) -> None:
    """Delete everything but the lock, the run's file first: without it, nothing is resumed."""
    (folder / RUN).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process may have locked it meanwhile
        folder.rmdir()


class FolderSink(Sink):
    """Writes Parquet parts into a folder on disk or in an object store, and `manifest.json` when all are done.

    A part is finished once its note exists, which is written after it.
    """

    def __init__(
        self,
        table: FilmTable,
        folder: Folder,
        classifier: Classifier,
        *,
        part_films: int = PART_FILMS,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Check the folder; see `tag_with_ray` for the arguments.

        Raises:
            UsageError: the folder holds other files, or a run that may be neither resumed nor replaced.
        """
        _check_inputs(table, {"out": folder.address})
        self._folder, self._part_films = folder, part_films
        self._run = _fingerprint(table, classifier) | {"films per part": part_films}
        self._run["inputs"] = [file.address for file in table.files]
        self._records = RecordBuilder(table.columns, classifier.genres)
        declared = table.types or {}
        self._types = {ours: declared.get(name, pl.String()) for name, ours in self._records.columns.items()}
        self._types |= self._records.types
        self._known = len(table.columns)
        self._rows: list[dict[str, Any]] = []
        self._counts = TagSummary()
        names = folder.names()
        if names and "_run.json" not in names:
            raise UsageError(f"{folder.address} is not empty and holds no tagged films; choose another --out")
        if overwrite and (other := next((name for name in names if not _OURS.fullmatch(name)), None)):
            raise UsageError(f"{folder.address} also holds other files, such as {other}; choose another --out")
        self.finished = resume and not overwrite and "manifest.json" in names
        self._replaces = bool(names) and overwrite
        if names and not overwrite and not resume:
            state = "a finished" if "manifest.json" in names else "an unfinished"
            raise UsageError(f"{folder.address} holds {state} run; give --resume to continue it, or --overwrite")
        if names and not overwrite:
            _check_same(json.loads(folder.read("_run.json")), self._run, folder.address)
        self._notes: list[dict[str, Any]] = []

    def resume(self) -> TagSummary:
        """Start the run, and return the counts of the parts written so far."""
        if self._replaces:
            self._folder.remove()
        self._folder.write("_run.json", json.dumps(self._run).encode())
        self._notes = [json.loads(self._folder.read(f"{NOTES}/{name}")) for name in self._folder.names(NOTES)]
        summary = TagSummary()
        for note in self._notes:
            summary.merge(note["summary"])
        return summary

    def write(self, films: list[Film], predictions: list[Prediction]) -> None:
        """Add a chunk, and write a part once it is full.

        Raises:
            UsageError: the films are from a file with other columns than the first.
        """
        for film, prediction in zip(films, predictions, strict=True):
            self._rows.append(self._records.build(film.record, prediction))
            self._counts.add(prediction)
        if len(self._records.columns) > self._known:
            name = list(self._records.columns)[self._known]
            raise UsageError(f"the column {name!r} is missing in the first table; tag the tables with it separately")
        if len(self._rows) >= self._part_films:
            self._write_part()

    def _write_part(self) -> None:
        name = f"part-{len(self._notes):06}.parquet"
        with tempfile.TemporaryDirectory(prefix="mmgcs-part-") as scratch:
            path = Path(scratch) / name
            try:
                write_table(self._rows, path, self._types)
            except TypeError as error:
                raise UsageError(f"a column has another type than in the first table ({error})") from None
            data = path.read_bytes()
        self._folder.write(name, data)
        note = {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        note |= {"summary": self._counts.to_json()}
        self._folder.write(f"{NOTES}/{name}.json", json.dumps(note).encode())
        self._notes.append(note)
        self._rows, self._counts = [], TagSummary()

    def finish(self, summary: TagSummary) -> None:
        """Write the last part and the manifest."""
        if self._rows or not self._notes:
            self._write_part()
        counts = {"films": summary.films, "in_error": summary.in_error, "seconds": round(summary.seconds, 3)}
        manifest = {"format": "mmgcs-tagged/1", **self._run, "parts": self._notes, **counts}
        self._folder.write("manifest.json", json.dumps(manifest, indent=1).encode())
