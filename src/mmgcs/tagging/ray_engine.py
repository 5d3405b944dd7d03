"""Tag on a Ray cluster: actors that hold the model read, tag and write parts, each some thousand films of one table.

A part is a range of a table's chunks, so that a part that is done twice (a worker was killed, or a run was resumed) is
the same. It counts as done once its note is there, which is written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import mmgcs
from mmgcs.bundle import DEFAULT_BUNDLE, MANIFEST, Bundle
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.runtime import load, predict_chunks
from mmgcs.tables import CHUNK, FilmTable, Folder, RecordBuilder, TableFile, find_tables, is_remote, write_table
from mmgcs.tagging.pipeline import Pipeline, Progress
from mmgcs.tagging.sinks import PART_FILMS, RowSink
from mmgcs.tagging.summary import TagSummary

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports about a user's cluster
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors that end a run are raised here

import ray
from ray.util import ActorPool

MANIFEST_JSON = "manifest.json"
RUN = "_run.json"
NOTES = "_parts"
"""Where the notes of finished parts are; readers of Parquet folders skip names with an underscore."""
ACTOR_CPUS = 0.5
"""Half a core per actor, though it uses a whole one: if a node is lost, its actors find room on the others."""


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """What every worker knows.

    Attributes:
        shards: the tables.
        out: the address of the folder of results.
        posters: the address of the folder of posters; None for the folder of each shard.
        delimiter: what separates the fields of a CSV.
        columns: film field to the column it is read from.
        part_chunks: chunks per part.
        types: the columns of the tables, each with its type in the output.
    """

    shards: tuple[TableFile, ...]
    out: str
    posters: str | None = None
    delimiter: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    part_chunks: int = PART_FILMS // CHUNK
    types: dict[str, Any] = field(default_factory=dict)

    def open(self, shard: int) -> FilmTable:
        """Open a shard, after downloading it if it is remote."""
        return FilmTable(self.shards[shard], posters=self.posters, delimiter=self.delimiter, columns=self.columns)


def tag_with_ray(
    films: str | Path,
    out: str | Path,
    *,
    posters: str | Path | None = None,
    model: Path | None = None,
    address: str | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    delimiter: str | None = None,
    columns: Mapping[str, str] | None = None,
    part_films: int = PART_FILMS,
    progress: Progress | None = None,
) -> TagSummary:
    """Tag sharded tables on a cluster: Parquet parts go into the folder `out`, and `manifest.json` when all are done.

    Args:
        films: a table, a folder of them or a pattern, on a disk that every node sees or in an object store.
        out: the address of a folder.
        posters: the address of the folder of posters; by default the folder of each table.
        model: a bundle's folder on this machine; it is sent to the workers.
        address: the cluster's; by default a cluster is started on this machine.
        workers: actors, each with one thread; by default one per core of the cluster.
        resume: continue an unfinished run; a finished one of the same films is left as it is.
        overwrite: remove what an earlier run wrote.
        delimiter: what separates the fields of a CSV.
        columns: film field to the column it is read from.
        part_films: films per part, a multiple of 512.
        progress: called after each part.

    Raises:
        UsageError: there are no tables, they differ in their columns, or `out` holds another run.
        MmgcsError: the cluster cannot be reached, or lost the work.
    """
    began = time.monotonic()
    bundle = Bundle(model if model is not None else DEFAULT_BUNDLE)
    shards = tuple(find_tables(films if is_remote(films) else Path(films).absolute()))
    folder = Folder(out)
    place = Folder(posters) if posters is not None else None
    if place is not None and place.local and not Path(place.path()).is_dir():
        raise UsageError(f"the posters folder {posters} does not exist; check --posters")
    run = ClusterRun(
        shards,
        folder.path() if folder.local else folder.address,
        None if place is None else place.path() if place.local else place.address,
        delimiter,
        dict(columns or {}),
        max(1, part_films // CHUNK),
    )
    description = {
        "inputs": [{"address": shard.address, "size": shard.size, "version": _version(shard)} for shard in shards],
        "columns": run.columns,
        "posters": run.posters,
        "model": {"name": bundle.config.name, "sha256": sha256(bundle.path / MANIFEST)},
        "mmgcs": mmgcs.__version__,
        "part_films": part_films,
    }
    _check_output(folder, description, resume=resume, overwrite=overwrite)
    first = run.open(0)
    if len(shards) > 1 and "id" not in first.sources:
        raise UsageError("several tables need a column id (or imdb_id) to tell films apart; add one")
    run = replace(run, types=column_types(first))
    folder.write(RUN, json.dumps(description).encode())
    notes = {name.removesuffix(".json"): json.loads(folder.read(f"{NOTES}/{name}")) for name in folder.names(NOTES)}
    summary = TagSummary()
    for note in notes.values():
        summary.merge(TagSummary(**note["summary"]))
    if MANIFEST_JSON not in folder.names():
        _start(address)
        try:
            for note in _tag_parts(run, bundle, workers, frozenset(notes)):
                notes[note["file"]] = note
                summary.merge(TagSummary(**note["summary"]))
                summary.seconds = time.monotonic() - began
                if progress is not None:
                    progress(summary)
        except ray.exceptions.RayError as error:
            raise _as_ours(error) from error
        finally:
            if address is None:
                ray.shutdown()
        result = {
            "parts": [notes[name] for name in sorted(notes)],
            "films": summary.films,
            "in_error": summary.in_error,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        manifest = {"format": "mmgcs-tagged/1", **description, **result}
        folder.write(MANIFEST_JSON, json.dumps(manifest, indent=1).encode())
    summary.seconds = time.monotonic() - began
    return summary


def _tag_parts(run: ClusterRun, bundle: Bundle, workers: int | None, done: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Tag the parts that are not done and yield their notes as they are written."""
    files = {
        path.relative_to(bundle.path).as_posix(): path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()
    }
    shared, sent = ray.put(run), ray.put(files)
    count = ray.remote(max_retries=-1)(count_parts)
    counts = ray.get([count.remote(shared, shard) for shard in range(len(run.shards))])
    # If an actor or its node is lost, Ray starts it elsewhere and repeats its task.
    actor = ray.remote(num_cpus=ACTOR_CPUS, max_restarts=-1, max_task_retries=-1)(Tagger)
    size = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    parts = [(shard, number) for shard, count in enumerate(counts) for number in range(count)]
    todo = [part for part in parts if part_name(*part) not in done]
    pool = ActorPool([actor.remote(shared, sent) for _ in range(min(size, max(1, len(todo))))])
    yield from pool.map_unordered(lambda tagger, part: tagger.tag.remote(*part), todo)


def part_name(shard: int, number: int) -> str:
    """Return the name of a part's file."""
    return f"part-{shard:05}-{number:05}.parquet"


def count_parts(run: ClusterRun, shard: int) -> int:
    """Return how many parts a shard has.

    Raises:
        UsageError: the shard has other columns than the first one, or cannot be read.
    """
    table = run.open(shard)
    for name, kind in column_types(table).items():
        first = run.types.get(name)
        if first is None or (first != "text" and first != kind):
            what = f"has the column {name!r}, which the first table does not have"
            if first is not None:
                what = f"has another type in the column {name!r} than the first table"
            raise UsageError(f"{run.shards[shard].address} {what}; tag it separately")
    return max(1, math.ceil(sum(1 for _ in table.chunks(fetch=False)) / run.part_chunks))


def column_types(table: FilmTable) -> dict[str, Any]:
    """Return the type of each column in the output: text, unless the format declares another."""
    types = table.types or dict.fromkeys(table.columns, "text")
    return {name: "text" if str(kind) == "String" else kind for name, kind in types.items()}


class Tagger:
    """An actor that loads the model once and uses one thread."""

    def __init__(self, run: ClusterRun, bundle: Mapping[str, bytes]) -> None:
        """Take what every worker knows, and the files of the bundle."""
        self._run = run
        folder = Path(tempfile.mkdtemp(prefix="mmgcs-bundle-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for name, data in bundle.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._classifier = load(folder, threads=1)
        self._records = RecordBuilder(tuple(run.types), self._classifier.genres)
        self._table: FilmTable | None = None
        self._chunks: Iterator[list[Film]] = iter(())
        self._next = (-1, 0)

    def tag(self, shard: int, number: int) -> dict[str, Any]:
        """Tag a part and write it as Parquet, then its note. Returns the note."""
        run, out, name = self._run, Folder(self._run.out), part_name(shard, number)
        with contextlib.suppress(FileNotFoundError):
            note: dict[str, Any] = json.loads(out.read(f"{NOTES}/{name}.json"))
            return note
        began, cores = time.time(), time.process_time()
        table, chunks = self._open_at(shard, number)
        rows: list[dict[str, Any]] = []
        pipeline = Pipeline(self._classifier, predict=lambda films: predict_chunks(self._classifier, films, workers=1))
        summary = pipeline.run(map(table.fetch_posters, chunks), RowSink(self._records, rows.append))
        self._next = (shard, number + 1)
        types = {self._records.columns[column]: kind for column, kind in run.types.items()} | self._records.types
        with tempfile.TemporaryDirectory(prefix="mmgcs-part-") as scratch:
            path = Path(scratch) / name
            write_table(rows, path, types)
            data = path.read_bytes()
        out.write(name, data)
        note = {
            "file": name,
            "shard": shard,
            "part": number,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "began": began,
            "core_seconds": time.process_time() - cores,
            "summary": asdict(summary),
        }
        out.write(f"{NOTES}/{name}.json", json.dumps(note).encode())
        return note

    def _open_at(self, shard: int, number: int) -> tuple[FilmTable, Iterator[list[Film]]]:
        """Return a shard and the chunks of one of its parts; reads on from the last part if that is before it."""
        table, (at_shard, at) = self._table, self._next
        if table is None or at_shard != shard or at > number:
            table, at = self._run.open(shard), 0
            self._table, self._chunks = table, table.chunks(fetch=False)
        self._next = (-1, 0)
        for _ in islice(self._chunks, (number - at) * self._run.part_chunks):
            pass
        return table, islice(self._chunks, self._run.part_chunks)


def _start(address: str | None) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "address": address or "local"}
    if address is None:
        options["include_dashboard"] = False
    try:
        with _no_chatter():
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MmgcsError(
            f"the Ray cluster {address or 'here'} cannot be reached ({reason[:200]}); check --address"
        ) from None


@contextlib.contextmanager
def _no_chatter() -> Iterator[None]:
    """Hide what Ray's processes print to stderr while they start; an error is raised anyway."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _as_ours(error: BaseException) -> MmgcsError:
    """Convert Ray's error: return the one a worker raised if it was one of ours."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MmgcsError):
            return type(cause)(*cause.args) if type(cause) in (MmgcsError, UsageError) else MmgcsError(str(cause))
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return MmgcsError(f"the cluster lost the work ({reason[:300]}); run the same command again with --resume")


def _version(shard: TableFile) -> str:
    return shard.version or str(Path(shard.address).stat().st_mtime_ns)


def _check_output(folder: Folder, run: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    names = folder.names()
    if not names:
        return
    if not ({RUN, MANIFEST_JSON} & set(names)):
        raise UsageError(f"{folder.address} is not empty and holds no tagged films; choose another --out")
    if overwrite:
        folder.remove()
        return
    if not resume:
        state = "a finished" if MANIFEST_JSON in names else "an unfinished"
        raise UsageError(f"{folder.address} holds {state} run; give --resume to continue it, or --overwrite")
    before = json.loads(folder.read(RUN))
    for key, value in run.items():
        if before.get(key) != value:
            raise UsageError(f"the run in {folder.address} had different {key}; use the same again, or --overwrite")
