"""Tagging on a Ray cluster: Ray Data reads the shards and hands parts to actors, which hold the model.

A worker that is killed costs its part a retry: Ray runs the part again elsewhere, and what was written already is
found and left. Parts are rows of the data set, films inside them, so Ray may cut its blocks as it likes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mmgcs
from mmgcs.bundle import DEFAULT_BUNDLE, MANIFEST, Bundle
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import sha256
from mmgcs.runtime import load
from mmgcs.runtime.batch import Progress, Summary
from mmgcs.tables import FilmTable, sources_of
from mmgcs.tagging.parts import NOTES, PART_FILMS, Job, Part, read_notes, read_parts, write_part
from mmgcs.tagging.storage import Folder, find_shards, local_copy

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a film catalogue is nobody else's business
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what Ray notes while it works; what ends a run is told by us

import ray
import ray.data

MANIFEST_JSON = "manifest.json"
RUN = "_run.json"
ACTOR_CPUS = 0.5
"""Half a core an actor, though it uses a whole one: where a node is lost, its actors find room on the others."""


def tag_with_ray(
    films: str,
    out: str,
    *,
    posters: str | None = None,
    model: Path | None = None,
    address: str | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    delimiter: str | None = None,
    part_films: int = PART_FILMS,
    progress: Progress | None = None,
) -> Summary:
    """Tag sharded tables on a cluster: Parquet parts go into the folder `out`, and `manifest.json` when all is done.

    Args:
        films: a table, a folder of them or a pattern, on a disk that every node sees or in an object store.
        out: the address of a folder.
        posters: the address of the folder of posters; without it, the folder of each table.
        model: a bundle's folder on this machine; it is sent to the workers.
        address: the cluster's; without it a cluster is started on this machine.
        workers: actors, each of one thread; as many as the cluster has cores without it.
        resume: continue an unfinished run.
        overwrite: remove what an earlier run wrote.
        delimiter: what separates the fields of a CSV.
        part_films: films a part.
        progress: told after each part.

    Raises:
        UsageError: there are no tables, they differ in their columns, or `out` holds another run.
        MmgcsError: the cluster cannot be reached, or lost the work.
    """
    began = time.monotonic()
    bundle = Bundle(model if model is not None else DEFAULT_BUNDLE)
    shards = tuple(find_shards(films))
    folder = Folder(out)
    job = Job(
        shards, folder.address if not folder.local else folder.path(""), _address(posters), {}, delimiter, part_films
    )
    run = {
        "inputs": [asdict(shard) for shard in shards],
        "posters": job.posters,
        "model": {"name": bundle.config.name, "sha256": sha256(bundle.path / MANIFEST)},
        "mmgcs": mmgcs.__version__,
        "part_films": part_films,
    }
    _check_output(folder, run, resume=resume, overwrite=overwrite)
    job = replace(job, columns=_columns(job))
    folder.write(RUN, json.dumps(run).encode())
    notes = {note["file"]: note for note in read_notes(folder)}
    summary = Summary()
    for note in notes.values():
        _add(summary, note)
    job = _without_done(job, list(notes.values()))
    if len(job.complete) < len(shards):
        _start(address)
        try:
            for note in _notes_of(job, bundle, workers):
                if note["file"] not in notes:
                    notes[note["file"]] = note
                    _add(summary, note)
                    summary.seconds = time.monotonic() - began
                    if progress is not None:
                        progress(summary.films, summary)
        except ray.exceptions.RayError as error:
            raise _told(error) from error
        finally:
            if address is None:
                ray.shutdown()
    missing = len(shards) - len(_without_done(job, list(notes.values())).complete)
    if missing:
        raise MmgcsError(f"{missing} of {len(shards)} tables are not done; run the same command with --resume")
    summary.seconds = time.monotonic() - began
    parts = [notes[name] for name in sorted(notes)]
    done = {"parts": parts, "films": summary.films, "in_error": summary.in_error, "finished": _now()}
    folder.write(MANIFEST_JSON, json.dumps({"format": "mmgcs-tagged/1", **run, **done}, indent=1).encode())
    return summary


class Tagger:
    """An actor: the model, loaded once, on one thread."""

    def __init__(self, job: Job, bundle: ray.ObjectRef[dict[str, bytes]]) -> None:
        self._job = job
        self._folder = tempfile.TemporaryDirectory(prefix="mmgcs-bundle-")
        for name, data in ray.get(bundle).items():
            path = Path(self._folder.name) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._classifier = load(self._folder.name, threads=1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Tag and write parts, one a row. Returns their notes as JSON."""
        columns = (batch[name] for name in ("shard", "number", "last", "films"))
        parts = [
            Part(int(shard), int(n), bool(last), bytes(films)) for shard, n, last, films in zip(*columns, strict=True)
        ]
        return {"note": [json.dumps(write_part(self._job, part, self._classifier)) for part in parts]}


def _read(batch: dict[str, Any], job: Job) -> Iterator[dict[str, list[Any]]]:
    for shard in batch["item"]:
        for part in read_parts(job, int(shard)):
            yield {"shard": [part.shard], "number": [part.number], "last": [part.last], "films": [part.films]}


def _notes_of(job: Job, bundle: Bundle, workers: int | None) -> Iterator[dict[str, Any]]:
    """Run the data set and yield the notes of parts as they are written."""
    todo = [shard for shard in range(len(job.shards)) if shard not in job.complete]
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    files = {
        path.relative_to(bundle.path).as_posix(): path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()
    }
    sent = ray.put(files)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a part a block: what a killed worker had in hand is one part, not many
    data = (
        ray.data.from_items(todo, override_num_blocks=len(todo))
        .map_batches(
            _read, fn_kwargs={"job": job}, batch_size=1, num_cpus=0, compute=ray.data.TaskPoolStrategy(size=workers)
        )
        .map_batches(
            Tagger,
            fn_constructor_args=(job, sent),
            batch_size=1,
            num_cpus=ACTOR_CPUS,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        )
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="ray")  # one table has many parts, which Ray cannot know
        for batch in data.iter_batches(batch_size=None, prefetch_batches=0):
            for note in batch["note"]:
                yield json.loads(note)


def _start(address: str | None) -> None:
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        options |= {"include_dashboard": False, "address": "local"}
    else:
        options |= {"address": address}
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
    """Keep what Ray's own processes print while they start off stderr; why they do not start is raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _told(error: BaseException) -> MmgcsError:
    """Ray's error as ours: the one that a worker raised, where it was one of ours."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MmgcsError):
            return type(cause)(*cause.args) if type(cause) in (MmgcsError, UsageError) else MmgcsError(str(cause))
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return MmgcsError(f"the cluster lost the work ({reason[:300]}); run the same command again with --resume")


def _columns(job: Job) -> dict[str, tuple[str, ...]]:
    """The columns of the first table and what kinds of value each holds: text, but where the format says otherwise."""
    with (
        tempfile.TemporaryDirectory(prefix="mmgcs-shard-") as scratch,
        local_copy(job.shards[0], Path(scratch)) as path,
    ):
        table = FilmTable(path, posters=Path(scratch), delimiter=job.delimiter)
        columns: dict[str, tuple[str, ...]] = {name: (table.kinds.get(name, "str"),) for name in table.columns}
        if len(job.shards) > 1 and "id" not in sources_of(table.columns):
            raise UsageError("several tables need a column id (or imdb_id) to tell films apart; add one")
    return columns


def _check_output(folder: Folder, run: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    names = folder.names()
    if not names:
        return
    if not ({RUN, MANIFEST_JSON} & set(names)):
        raise UsageError(f"{folder.address} is not empty and holds no tagged films; give --out another folder")
    if overwrite:
        folder.remove()
    elif MANIFEST_JSON in names:
        raise UsageError(f"{folder.address} holds a finished run; give --overwrite to replace it, or another --out")
    elif not resume:
        raise UsageError(f"{folder.address} holds an unfinished run; give --resume to continue it, or --overwrite")
    else:
        before = json.loads(folder.read(RUN))
        for key, what in (
            ("inputs", "films"),
            ("posters", "posters"),
            ("model", "model"),
            ("mmgcs", "version of mmgcs"),
        ):
            if before.get(key) != run[key]:
                raise UsageError(f"the unfinished run in {folder.address} had another {what}; give --overwrite")
        if before["part_films"] != run["part_films"]:
            raise UsageError(f"the unfinished run in {folder.address} had parts of {before['part_films']} films")


def _without_done(job: Job, notes: list[dict[str, Any]]) -> Job:
    done: dict[int, set[int]] = {}
    ends: dict[int, int] = {}
    for note in notes:
        done.setdefault(note["shard"], set()).add(note["part"])
        if note["last"]:
            ends[note["shard"]] = note["part"]
    complete = frozenset(shard for shard, end in ends.items() if len(done[shard]) == end + 1)
    return replace(job, done={shard: frozenset(parts) for shard, parts in done.items()}, complete=complete)


def _add(summary: Summary, note: dict[str, Any]) -> None:
    part = Summary(**note["summary"])
    summary.films += part.films
    summary.warnings += part.warnings
    summary.unsure += part.unsure
    for mine, its in ((summary.errors, part.errors), (summary.genres, part.genres)):
        for name, count in its.items():
            mine[name] = mine.get(name, 0) + count


def _address(posters: str | None) -> str | None:
    if posters is None:
        return None
    folder = Folder(posters)
    if not folder.local:
        return folder.address
    if not Path(folder.path("")).is_dir():
        raise UsageError(f"the posters folder {posters} does not exist; check --posters")
    return folder.path("")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


__all__ = ["ACTOR_CPUS", "MANIFEST_JSON", "NOTES", "RUN", "Tagger", "tag_with_ray"]
