"""Tag on a Ray cluster: Ray Data reads the shards and hands parts to actors, which hold the model.

If a worker is killed, Ray runs its part again elsewhere; parts that were already written are left alone.
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
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mmgcs
from mmgcs.bundle import DEFAULT_BUNDLE, MANIFEST, Bundle
from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import sha256
from mmgcs.runtime import load
from mmgcs.tables import TableFile, find_tables
from mmgcs.tagging.parts import ClusterRun, Part, column_types, read_notes, read_parts, write_part
from mmgcs.tagging.pipeline import Progress
from mmgcs.tagging.sinks import PART_FILMS
from mmgcs.tagging.storage import Folder
from mmgcs.tagging.summary import TagSummary

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports about a user's cluster
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors that end a run are raised here

import ray
import ray.data

MANIFEST_JSON = "manifest.json"
RUN = "_run.json"
ACTOR_CPUS = 0.5
"""Half a core per actor, though it uses a whole one: if a node is lost, its actors find room on the others."""


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
        part_films: films per part.
        progress: called after each part.

    Raises:
        UsageError: there are no tables, they differ in their columns, or `out` holds another run.
        MmgcsError: the cluster cannot be reached, or lost the work.
    """
    began = time.monotonic()
    bundle = Bundle(model if model is not None else DEFAULT_BUNDLE)
    shards, folder = tuple(find_tables(films)), Folder(out)
    inside = folder.path("") if folder.local else folder.address
    run = ClusterRun(shards, inside, _posters_address(posters), {}, delimiter, dict(columns or {}), part_films)
    description = {
        "inputs": [{"address": shard.address, "size": shard.size, "version": _version(shard)} for shard in shards],
        "columns": run.columns,
        "posters": run.posters,
        "model": {"name": bundle.config.name, "sha256": sha256(bundle.path / MANIFEST)},
        "mmgcs": mmgcs.__version__,
        "part_films": part_films,
    }
    _check_output(folder, description, resume=resume, overwrite=overwrite)
    run = replace(run, types=_column_types(run))
    folder.write(RUN, json.dumps(description).encode())
    summary, notes = TagSummary(), {note["file"]: note for note in read_notes(folder)}
    for note in notes.values():
        summary.merge(TagSummary(**note["summary"]))
    run = _without_done(run, list(notes.values()))
    if len(run.complete) < len(shards):
        _start(address)
        try:
            for note in _tag_parts(run, bundle, workers):
                if note["file"] not in notes:
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
    missing = len(shards) - len(_without_done(run, list(notes.values())).complete)
    if missing:
        raise MmgcsError(f"{missing} of {len(shards)} tables are not done; run the same command with --resume")
    summary.seconds = time.monotonic() - began
    result = {
        "parts": [notes[name] for name in sorted(notes)],
        "films": summary.films,
        "in_error": summary.in_error,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    manifest = {"format": "mmgcs-tagged/1", **description, **result}
    folder.write(MANIFEST_JSON, json.dumps(manifest, indent=1).encode())
    return summary


class Tagger:
    """An actor that loads the model once and uses one thread."""

    def __init__(self, run: ClusterRun, bundle: ray.ObjectRef[dict[str, bytes]]) -> None:
        self._run = run
        self._folder = tempfile.TemporaryDirectory(prefix="mmgcs-bundle-")
        for name, data in ray.get(bundle).items():
            path = Path(self._folder.name) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._classifier = load(self._folder.name, threads=1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Tag and write parts, one per row. Returns their notes as JSON."""
        columns = (batch[name] for name in ("shard", "number", "last", "films"))
        parts = [
            Part(int(shard), int(n), bool(last), bytes(films)) for shard, n, last, films in zip(*columns, strict=True)
        ]
        return {"note": [json.dumps(write_part(self._run, part, self._classifier)) for part in parts]}


def _read(batch: dict[str, Any], run: ClusterRun) -> Iterator[dict[str, list[Any]]]:
    for shard in batch["item"]:
        for part in read_parts(run, int(shard)):
            yield {"shard": [part.shard], "number": [part.number], "last": [part.last], "films": [part.films]}


def _tag_parts(run: ClusterRun, bundle: Bundle, workers: int | None) -> Iterator[dict[str, Any]]:
    """Tag what is not done and yield the notes of parts as they are written."""
    todo = [shard for shard in range(len(run.shards)) if shard not in run.complete]
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    files = {
        path.relative_to(bundle.path).as_posix(): path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()
    }
    sent = ray.put(files)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # one part per block: a killed worker loses one part, not many
    data = (
        ray.data.from_items(todo, override_num_blocks=len(todo))
        .map_batches(
            _read, fn_kwargs={"run": run}, batch_size=1, num_cpus=0, compute=ray.data.TaskPoolStrategy(size=workers)
        )
        .map_batches(
            Tagger,
            fn_constructor_args=(run, sent),
            batch_size=1,
            num_cpus=ACTOR_CPUS,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        )
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="ray")  # about a table having many parts
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


def _column_types(run: ClusterRun) -> dict[str, Any]:
    """Return the columns of the first table with their types: text, unless the format declares them."""
    with tempfile.TemporaryDirectory(prefix="mmgcs-shard-") as scratch:
        table = run.open_shard(0, Path(scratch), Path(scratch))
        if len(run.shards) > 1 and "id" not in table.sources:
            raise UsageError("several tables need a column id (or imdb_id) to tell films apart; add one")
        return dict.fromkeys(run.shards[0].partition, "text") | column_types(table)


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
    for key, what in (
        ("inputs", "set of films"),
        ("columns", "set of columns"),
        ("posters", "folder of posters"),
        ("model", "model"),
        ("mmgcs", "version of mmgcs"),
        ("part_films", "size of parts"),
    ):
        if before.get(key) != run[key]:
            raise UsageError(f"the run in {folder.address} had a different {what}; start again with --overwrite")


def _without_done(run: ClusterRun, notes: list[dict[str, Any]]) -> ClusterRun:
    done: dict[int, set[int]] = {}
    ends: dict[int, int] = {}
    for note in notes:
        done.setdefault(note["shard"], set()).add(note["part"])
        if note["last"]:
            ends[note["shard"]] = note["part"]
    complete = frozenset(shard for shard, end in ends.items() if len(done[shard]) == end + 1)
    return replace(run, done={shard: frozenset(parts) for shard, parts in done.items()}, complete=complete)


def _posters_address(posters: str | None) -> str | None:
    if posters is None:
        return None
    folder = Folder(posters)
    if not folder.local:
        return folder.address
    if not Path(folder.path("")).is_dir():
        raise UsageError(f"the posters folder {posters} does not exist; check --posters")
    return folder.path("")
