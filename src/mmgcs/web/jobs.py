"""Tables that are tagged in the background: a file is uploaded, and its tagged copy downloaded when it is done."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from mmgcs.errors import MmgcsError
from mmgcs.film import Film, Prediction
from mmgcs.runtime import BATCH
from mmgcs.tables import READERS, WRITERS, FilmTable
from mmgcs.tagging import FileSink, Pipeline, TagSummary
from mmgcs.web.batching import Batcher
from mmgcs.web.errors import BusyError, NotFoundError, RequestError, UnprocessableError, UnsupportedError
from mmgcs.web.logs import LOG, describe_error
from mmgcs.web.settings import Settings
from mmgcs.web.upload_check import count_films

NO_POSTERS = "poster paths in an uploaded table are not read; send posters one by one, or use mmgcs tag"
PREVIEW = 50
"""Rows of the preview."""
_SWEEP = 1.0
"""Seconds between two looks for tables that were kept long enough."""
_FOLDER = "mmgcs-tables-"


class Job:
    """One table.

    Attributes:
        id: its id, which cannot be guessed.
        filename: the name of the uploaded file.
        state: "waiting", "running", "done" or "failed".
        rows: films in the table; None until they are counted.
        films, finished, errors, unsure: films read, tagged, in error, and in need of review so far.
        genres: how often each genre was predicted.
        preview: the first rows.
        share: the share of the table that is tagged, 0 to 1.
        error: why it failed.
        since: when it started or ended, to delete it in time.
    """

    def __init__(self, root: Path, filename: str, suffix: str) -> None:
        self.id = secrets.token_urlsafe(16)
        self.filename = filename
        self.folder = root / self.id
        # The files' names are ours, not the sender's.
        self.table = self.folder / f"films{suffix}"
        self.out = self.folder / f"tagged{suffix if suffix in WRITERS else '.csv'}"
        self.state = "waiting"
        self.rows: int | None = None
        self.films = self.finished = self.errors = self.unsure = 0
        self.genres: Counter[str] = Counter()
        self.preview: list[dict[str, Any]] = []
        self.share = 0.0
        self.error: str | None = None
        self.since = time.monotonic()
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None

    def result_path(self) -> Path:
        """Return the tagged table. Raises RequestError if it is not done, UnprocessableError if it failed."""
        if self.state == "failed":
            raise UnprocessableError(self.error or "the table could not be tagged")
        if self.state != "done":
            raise RequestError("the table is not tagged yet; ask for the job's state until it is done")
        return self.out

    def to_json(self) -> dict[str, Any]:
        """Return the job as `JobOut` describes it, without its result."""
        return {
            "id": self.id,
            "filename": self.filename,
            "state": self.state,
            "rows": self.rows,
            "films": self.films,
            "done": self.finished,
            "share": round(self.share, 4),
            "errors": self.errors,
            "unsure": self.unsure,
            "genres": dict(self.genres.most_common()),
            "preview": self.preview,
            "error": self.error,
        }

    def add_preview(self, films: Sequence[Film], predictions: Sequence[Prediction]) -> None:
        """Keep the first films for the preview."""
        rows = [
            {
                "id": film.id,
                "title": film.title,
                "genres": list(prediction.genres),
                "confidence": None if prediction.error is not None else prediction.confidence,
                "sure": None if prediction.error is not None else prediction.sure,
                "error": prediction.error,
            }
            for film, prediction in zip(films, predictions, strict=True)
        ]
        self.preview = [*self.preview, *rows][:PREVIEW]

    def update(self, summary: TagSummary) -> None:
        """Take over the counts of the run so far."""
        self.finished, self.errors, self.unsure = summary.films, summary.in_error, summary.unsure
        self.genres = Counter(summary.genres)
        self.share = self.finished / max(1, self.rows or 0)


class _StoppedError(Exception):
    """The job was removed while it ran."""


class JobQueue:
    """All tables of one server, each in a thread that lives while there is work.

    They take turns, one batch of films each, so that a small table need not wait for a large one.
    """

    def __init__(self, batcher: Batcher, settings: Settings, count: Callable[[Sequence[Prediction]], None]) -> None:
        self._batcher = batcher
        self._settings = settings
        self._count = count
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._working: set[Job] = set()
        self._closed = threading.Event()
        self._sweeper: threading.Thread | None = None
        self._root: Path | None = None
        self._root_lock: FileLock | None = None
        _delete_abandoned()

    @property
    def active(self) -> int:
        """The number of tables that are waiting or being tagged."""
        return len(self._working)

    def start(self, stream: IO[bytes], filename: str) -> Job:
        """Store a table and tag it in the background.

        Raises:
            UnsupportedError: its name has no supported extension.
            BusyError: too many tables are waiting.
        """
        name = filename.replace("\\", "/").rpartition("/")[2]
        suffix = Path(name).suffix.lower()[:12]
        if suffix not in READERS:
            raise UnsupportedError(f"the table's name must end in one of {', '.join(READERS)}")
        with self._lock:
            # A removed one counts until its thread has ended.
            if len(self._working) >= self._settings.max_jobs:
                raise BusyError("too many tables are being tagged; try again in a minute")
            job = Job(self._make_root(), name[:200], suffix)
            self._jobs[job.id] = job
            self._working.add(job)
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="delete-old-jobs", daemon=True)
                self._sweeper.start()
        try:
            job.folder.mkdir(mode=0o700)
            with job.table.open("wb") as handle:
                shutil.copyfileobj(stream, handle)
            job.thread = threading.Thread(target=self._work, args=(job,), name=f"job-{job.id[:6]}", daemon=True)
            job.thread.start()
        except BaseException:
            self._working.discard(job)
            self._drop(job)
            raise
        return job

    def _make_root(self) -> Path:
        """Return the folder of all jobs. A lock beside it says that it is in use."""
        if self._root is None:
            root = Path(tempfile.gettempdir()) / f"{_FOLDER}{secrets.token_hex(8)}"
            self._root_lock = FileLock(f"{root}.lock", thread_local=False)
            self._root_lock.acquire()
            root.mkdir(mode=0o700)
            self._root = root
        return self._root

    def get(self, job_id: str) -> Job:
        """Return a job. Raises NotFoundError if there is none of that id, or it was deleted."""
        job = self._jobs.get(job_id)
        if job is None or self._is_old(job):
            raise NotFoundError("there is no such job; tagged tables are deleted after a while")
        return job

    def remove(self, job_id: str) -> None:
        """Stop a job and delete its files. Raises NotFoundError if there is none of that id."""
        self._drop(self.get(job_id))

    def _drop(self, job: Job) -> None:
        job.stopped.set()
        with self._lock:
            self._jobs.pop(job.id, None)
        if job.state != "running":  # otherwise its thread does so when it ends
            shutil.rmtree(job.folder, ignore_errors=True)

    def _is_old(self, job: Job) -> bool:
        return job.state in ("done", "failed") and time.monotonic() - job.since > 60 * self._settings.job_minutes

    def _sweep(self) -> None:
        """Delete jobs that ended long enough ago, even if nobody asks for them."""
        while not self._closed.wait(_SWEEP):
            for job in list(self._jobs.values()):
                if self._is_old(job):
                    self._drop(job)

    def close(self, seconds: float = 10.0) -> bool:
        """Stop all jobs, delete their files, and wait for their threads. Returns whether all have ended.

        A thread that is still in the model when the process ends would abort it.
        """
        until = time.monotonic() + seconds
        self._closed.set()
        threads = [job.thread for job in list(self._working) if job.thread is not None]
        for job in list(self._jobs.values()):
            self._drop(job)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if self._root is not None and self._root_lock is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root_lock.release()
            Path(self._root_lock.lock_file).unlink(missing_ok=True)
            self._root = None
        return not any(thread.is_alive() for thread in threads)

    def _work(self, job: Job) -> None:
        job.state = "running"
        try:
            self._tag(job)
            state = "done"
        except _StoppedError:
            state = "failed"
        except MmgcsError as error:
            state, job.error = "failed", str(error).replace(str(job.table), "the table")
        except BaseException as error:  # a panic of polars is not an Exception, and must not leave the job running
            LOG.error("a table failed", extra=describe_error(error))
            state, job.error = "failed", "the table cannot be read; check that it has the format its name says"
        job.since = time.monotonic()
        job.state = state
        if job.stopped.is_set():
            shutil.rmtree(job.folder, ignore_errors=True)
        self._working.discard(job)

    def _tag(self, job: Job) -> None:
        job.rows = count_films(job.table, 4 * self._settings.max_table, self._settings.max_rows, job.stopped)
        if job.stopped.is_set():  # not counted to the end, so it must not be read here
            return
        table, classifier = FilmTable(job.table, posters=job.folder), self._batcher.classifier

        def chunks() -> Iterator[list[Film]]:
            for films in table.chunks(BATCH):
                job.films += len(films)
                yield [_without_path(film) for film in films]

        def predict(source: Iterator[list[Film]]) -> Iterator[tuple[list[Film], list[Prediction]]]:
            for films in source:
                if job.stopped.is_set():
                    raise _StoppedError
                with self._turn:
                    predictions = self._predict(films)
                job.add_preview(films, predictions)
                yield films, predictions

        with FileSink(table, job.out, classifier) as sink:
            Pipeline(classifier, predict=predict).run(chunks(), sink, job.update)

    def _predict(self, films: list[Film]) -> list[Prediction]:
        while True:
            try:
                predictions = self._batcher.predict(films)
            except BusyError:
                time.sleep(0.2)  # people at the page come first
                continue
            self._count(predictions)
            return predictions


def _without_path(film: Film) -> Film:
    # A path in a stranger's table must not read this machine's files.
    if not isinstance(film.poster, Path):
        return film
    return replace(film, poster=None, warnings=(*film.warnings, NO_POSTERS))


def _delete_abandoned() -> None:
    """Delete the tables of servers that were killed: those whose lock nobody holds."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except (Timeout, OSError):
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        lock.release()
        path.unlink(missing_ok=True)
