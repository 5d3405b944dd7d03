"""Tag on a Ray cluster: this process reads the films and writes the results; actors hold the model and predict.

Predictions come back in the order of the films, so the chunks and the results are the same as on one machine.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmgcs.errors import MmgcsError
from mmgcs.film import Film, Prediction
from mmgcs.runtime import load, predict_chunks
from mmgcs.tables import FilmTable, Folder, fetch_posters, is_remote
from mmgcs.tagging.pipeline import Pipeline, TagProgress, TagSummary
from mmgcs.tagging.sinks import PART_FILMS, FolderSink

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors that end a run are raised anyway

import ray


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
    progress: TagProgress | None = None,
) -> TagSummary:
    """Tag tables on a cluster: Parquet parts go into the folder `out`, and `manifest.json` when all are done.

    Args:
        films: a table, a folder of tables or a pattern, on this machine or in an object store.
        out: the path or URL of a folder.
        posters: the folder of posters, which every node must reach; by default the table's folder.
        model: a bundle's folder on this machine; it is sent to the workers.
        address: the address of the cluster; by default, a cluster is started on this machine.
        workers: the number of actors, each with one thread; by default one per core of the cluster.
        resume: True to resume an unfinished run; a finished run of the same films is left as it is.
        overwrite: True to remove what an earlier run wrote.
        delimiter: the delimiter of CSV; detected by default.
        columns: film field to the column it is read from.
        part_films: films per part, a multiple of 512.
        progress: called after each chunk.

    Returns:
        The counts, including those before the run was resumed; all zero if it had already finished.

    Raises:
        UsageError: there are no tables, they differ in their columns, or `out` holds another run.
        MmgcsError: the cluster cannot be reached, or failed during the run.
    """
    classifier = load(model)

    def absolute(place: str | Path) -> str | Path:  # workers have another working directory
        return place if is_remote(place) else Path(place).absolute()

    folder = None if posters is None else absolute(posters)
    table = FilmTable(absolute(films), posters=folder, delimiter=delimiter, columns=columns)
    sink = FolderSink(table, Folder(out), classifier, part_films=part_films, resume=resume, overwrite=overwrite)
    if sink.finished:
        return TagSummary()
    store = None if isinstance(table.posters, Path) else table.posters.address
    bundle = classifier.bundle.path
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    _start(address)
    try:
        shared = ray.put(files)  # kept until the end, because restarted actors need it
        # If an actor or its node is lost, Ray starts it elsewhere and repeats its task. An actor uses a whole core but
        # reserves half of one, so that the remaining nodes have room for it.
        actor = ray.remote(num_cpus=0.5, max_restarts=-1, max_task_retries=-1)(Tagger)
        size = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        actors = [actor.remote(shared, store) for _ in range(size)]
        pipeline = Pipeline(classifier, predict=lambda chunks: _predict(actors, chunks))
        return pipeline.run(table.chunks(fetch=False), sink, progress)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, MmgcsError):
            raise cause from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise MmgcsError(f"the cluster failed ({reason[:300]}); run the same command again with --resume") from error
    finally:
        if address is None:
            ray.shutdown()


class Tagger:
    """An actor that holds the model and predicts in one thread."""

    def __init__(self, bundle: Mapping[str, bytes], posters: str | None) -> None:
        """Load the model from the bundle's files. `posters` is the URL of their folder in an object store, if any."""
        folder = Path(tempfile.mkdtemp(prefix="mmgcs-bundle-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for name, data in bundle.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        self._classifier = load(folder, threads=1)
        self._posters = None if posters is None else Folder(posters)

    def predict(self, films: list[Film]) -> list[Prediction]:
        """Return the predictions of a chunk."""
        if self._posters is not None:
            films = fetch_posters(films, self._posters)
        ((_, predictions),) = predict_chunks(self._classifier, iter([films]), workers=1)
        return predictions


def _predict(
    actors: list[ray.actor.ActorHandle], chunks: Iterator[list[Film]]
) -> Iterator[tuple[list[Film], list[Prediction]]]:
    """Predict chunks in order, reading three per actor ahead, so that no actor waits for a slow one."""
    waiting: deque[tuple[ray.actor.ActorHandle, list[Film], ray.ObjectRef]] = deque()

    def take() -> tuple[list[Film], list[Prediction]]:
        actor, films, answer = waiting.popleft()
        try:
            return films, ray.get(answer)
        except ray.exceptions.ObjectLostError:  # with its node
            return films, ray.get(actor.predict.remote(films))

    for actor, films in zip(itertools.cycle(actors), chunks, strict=False):
        waiting.append((actor, films, actor.predict.remote(films)))
        if len(waiting) > 3 * len(actors):
            yield take()
    while waiting:
        yield take()


def _start(address: str | None) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    options: dict[str, Any] = {} if address is not None else {"include_dashboard": False}
    try:
        with _no_chatter():
            ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **options)
    except Exception as error:  # of many types, including plain Exception
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if address is None:
            raise MmgcsError(f"Ray does not start on this machine ({reason}); try again") from error
        raise MmgcsError(f"the Ray cluster {address} cannot be reached ({reason}); check --address") from error


@contextlib.contextmanager
def _no_chatter() -> Iterator[None]:
    """Hide what Ray's processes print to stderr while they start; errors are raised anyway."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
