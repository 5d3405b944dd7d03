"""Tables that are tagged in the background: a file comes in, its tagged copy is fetched when it is done."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mmgcs.errors import MmgcsError
from mmgcs.film import Film, Prediction
from mmgcs.runtime.classifier import BATCH
from mmgcs.tables import READERS, FilmTable
from mmgcs.tagging import FileSink, Pipeline, TagSummary
from mmgcs.web.batching import Batcher
from mmgcs.web.errors import BusyError, NotFoundError, RequestError, UnprocessableError, UnsupportedError
from mmgcs.web.observing import LOG, without_text
from mmgcs.web.settings import Settings
from mmgcs.web.unpacked import check_unpacked

_SWEEP = 1.0
"""Seconds between two looks for tables that were kept long enough."""
NO_POSTERS = "a table's paths to posters are not read here; send posters one by one, or use mmgcs tag"


class Job:
    """One table.

    Attributes:
        id: what it is asked for by; cannot be guessed.
        state: "waiting", "running", "done" or "failed".
        films, finished, errors, unsure: how many.
        share: the share of the table that is tagged, 0 to 1.
        error: why it failed.
        since: when it started or ended, for forgetting it.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.id = secrets.token_urlsafe(16)
        self.folder = folder
        self.suffix = suffix
        self.state = "waiting"
        self.films = self.finished = self.errors = self.unsure = 0
        self.share = 0.0
        self.error: str | None = None
        self.since = time.monotonic()
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None

    @property
    def table(self) -> Path:
        """The table as it came; its name is ours, not the sender's."""
        return self.folder / f"films{self.suffix}"

    @property
    def out(self) -> Path:
        """The tagged table."""
        return self.folder / f"tagged{self.suffix}"

    def result_path(self) -> Path:
        """The tagged table. Raises RequestError where it is not done, UnprocessableError where it failed."""
        if self.state == "failed":
            raise UnprocessableError(self.error or "the table could not be tagged")
        if self.state != "done":
            raise RequestError("the table is not done yet; ask for its state until it is")
        return self.out

    def to_json(self) -> dict[str, Any]:
        """The job as `JobOut` describes it."""
        return {
            "id": self.id,
            "state": self.state,
            "films": self.films,
            "done": self.finished,
            "share": round(self.share, 4),
            "errors": self.errors,
            "unsure": self.unsure,
            "error": self.error,
            "result": f"/api/v1/batch/{self.id}/result" if self.state == "done" else None,
        }


class _StoppedError(Exception):
    """The job was removed while it ran."""


class Jobs:
    """All tables of one server, each in a thread that lives while there is work.

    They take turns, a batch of films each, so that a table of three films need not wait for one of a hundred thousand.
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

    def start(self, stream: IO[bytes], filename: str) -> Job:
        """Take a table in and tag it in the background.

        Raises:
            UnsupportedError: its name's extension is none that is read.
            BusyError: too many tables wait.
        """
        suffix = Path(filename.replace("\\", "/")).suffix.lower()[:12]
        if suffix not in READERS:
            raise UnsupportedError(f"the table's name ends in none of {', '.join(READERS)}; send one of these")
        with self._lock:
            # One that was removed counts until its thread has ended.
            if len(self._working) >= self._settings.max_jobs:
                raise BusyError("too many tables are being tagged; try again in a minute")
            job = Job(Path(tempfile.mkdtemp(prefix="mmgcs-")), suffix)
            self._jobs[job.id] = job
            self._working.add(job)
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="forget-jobs", daemon=True)
                self._sweeper.start()
        try:
            with job.table.open("wb") as handle:
                shutil.copyfileobj(stream, handle)
            job.thread = threading.Thread(target=self._work, args=(job,), name=f"job-{job.id[:6]}", daemon=True)
            job.thread.start()
        except BaseException:
            self._working.discard(job)
            self._drop(job)
            raise
        return job

    def get(self, name: str) -> Job:
        """The job of that id. Raises NotFoundError where there is none or it was forgotten."""
        job = self._jobs.get(name)
        if job is None or self._is_old(job):
            raise NotFoundError("there is no such job; its result may have been forgotten")
        return job

    def remove(self, name: str) -> None:
        """Stop a job and delete its files. Raises NotFoundError where there is none."""
        self._drop(self.get(name))

    def _drop(self, job: Job) -> None:
        job.stopped.set()
        with self._lock:
            self._jobs.pop(job.id, None)
        if job.state != "running":  # else its thread does so, as it ends
            shutil.rmtree(job.folder, ignore_errors=True)

    def _is_old(self, job: Job) -> bool:
        return job.state in ("done", "failed") and time.monotonic() - job.since > 60 * self._settings.job_minutes

    def _sweep(self) -> None:
        """Delete what ended longer ago than the settings allow, also where nobody asks any more."""
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
        return not any(thread.is_alive() for thread in threads)

    def _work(self, job: Job) -> None:
        job.state = "running"
        try:
            self._tag(job)
            state = "done"
        except _StoppedError:
            state = "failed"
        except MmgcsError as error:
            # Messages name the file by our path for it, which is nobody's business.
            state, job.error = "failed", str(error).replace(str(job.table), "the table")
        except BaseException as error:  # a panic of polars is no Exception; nothing may leave the job running for ever
            LOG.error("a table failed", extra={"fields": without_text(error)})
            state, job.error = "failed", "the table cannot be read; check that it is what its name says"
        job.since = time.monotonic()
        job.state = state
        if job.stopped.is_set():
            shutil.rmtree(job.folder, ignore_errors=True)
        self._working.discard(job)

    def _tag(self, job: Job) -> None:
        check_unpacked(job.table, 4 * self._settings.max_table, self._settings.max_rows, job.stopped)
        if job.stopped.is_set():  # it was not looked at to the end, and must not be read here
            return
        table, classifier = FilmTable(job.table, posters=job.folder), self._batcher.classifier

        def chunks() -> Iterator[list[Film]]:
            for films in table.chunks(BATCH):
                job.films += len(films)
                if job.films > self._settings.max_rows:
                    raise UnprocessableError(f"the table has over {self._settings.max_rows:,} films; send it in parts")
                yield [_without_path(film) for film in films]

        def predict(source: Iterator[list[Film]]) -> Iterator[tuple[list[Film], list[Prediction]]]:
            for films in source:
                if job.stopped.is_set():
                    raise _StoppedError
                with self._turn:
                    predictions = self._predict(films)
                yield films, predictions

        def progress(summary: TagSummary) -> None:
            job.finished, job.share = summary.films, table.share()
            job.errors, job.unsure = summary.in_error, summary.unsure

        with FileSink(table, job.out, classifier) as sink:
            Pipeline(classifier, predict=predict).run(chunks(), sink, progress)

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
