"""Tag uploaded tables in the background, and keep the results for download."""

from __future__ import annotations

import contextlib
import math
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, NotFound, ServiceUnavailable, UnprocessableEntity, UnsupportedMediaType

from mmgcs.errors import MmgcsError
from mmgcs.files import lock_folder
from mmgcs.film import Film, Prediction
from mmgcs.runtime import BATCH, Classifier
from mmgcs.tables import READERS, WRITERS, FilmTable
from mmgcs.tagging import Pipeline, TagSummary, open_file_sink
from mmgcs.web.logs import LOG, describe_error
from mmgcs.web.schemas import JobOut, PreviewOut
from mmgcs.web.settings import Settings
from mmgcs.web.upload_check import count_films

PREVIEW = 50
"""Rows of the preview."""
_SWEEP = 1.0
"""Seconds between checks for tables that are due to be deleted."""
_FOLDER = "mmgcs-tables-"


@dataclass(eq=False)
class Job:
    """One table: what the API shows of it, and its files, whose names do not come from the sender."""

    shown: JobOut
    table: Path
    out: Path
    columns: Mapping[str, str]
    ended: float = math.inf
    stopped: threading.Event = field(default_factory=threading.Event)

    def result_path(self) -> Path:
        """Return the tagged table. Raises BadRequest if it is not done, UnprocessableEntity if it failed."""
        if self.shown.state == "failed":
            raise UnprocessableEntity(self.shown.error or "the table could not be tagged")
        if self.shown.state != "done":
            raise BadRequest("the table is not tagged yet; ask for the job's state until it is done")
        return self.out

    def delete_files(self) -> None:
        """Delete the table and its result."""
        shutil.rmtree(self.table.parent, ignore_errors=True)


class JobQueue:
    """All tables of one server, each tagged in its own thread.

    They take turns, one batch of films each, so that a small table need not wait for a large one.
    """

    def __init__(
        self, predict: Callable[[Sequence[Film]], list[Prediction]], classifier: Classifier, settings: Settings
    ) -> None:
        self._predict = predict
        self._classifier = classifier
        self._settings = settings
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._root: Path | None = None
        self._exit = contextlib.ExitStack()
        for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
            # If nobody holds its lock, it was left by a server that was killed.
            with contextlib.suppress(MmgcsError, OSError), lock_folder(folder):
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def active(self) -> int:
        """The number of tables that are waiting or being tagged. A removed one counts until its thread ends."""
        return sum(thread.is_alive() for thread in self._threads)

    def start(self, file: FileStorage, columns: Mapping[str, str] = {}) -> Job:
        """Store a table and tag it in the background.

        Args:
            file: the uploaded file.
            columns: film field to the column it is read from.

        Raises:
            UnsupportedMediaType: its name has no supported extension.
            ServiceUnavailable: too many tables are waiting.
        """
        name = (file.filename or "").replace("\\", "/").rpartition("/")[2]
        suffix = Path(name).suffix.lower()[:12]
        if suffix not in READERS:
            raise UnsupportedMediaType(f"the table's name must end in one of {', '.join(READERS)}")
        with self._lock:
            if self.active >= self._settings.max_jobs:
                raise ServiceUnavailable("too many tables are being tagged; try again in a minute", retry_after=60)
            shown = JobOut(id=secrets.token_urlsafe(16), filename=name[:200])
            folder = self._make_root() / shown.id
            out = folder / f"tagged{suffix if suffix in WRITERS else '.csv'}"
            job = Job(shown, folder / f"films{suffix}", out, columns)
            folder.mkdir(mode=0o700)
            try:
                file.save(job.table)
            except BaseException:
                job.delete_files()
                raise
            self._jobs[shown.id] = job
            thread = threading.Thread(target=self._work, args=(job,), name=f"job-{shown.id[:6]}", daemon=True)
            self._threads = [*(other for other in self._threads if other.is_alive()), thread]
            thread.start()
        return job

    def _make_root(self) -> Path:
        """Return the folder of all jobs. It is locked, so that no other server deletes it."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix=_FOLDER))
            self._exit.enter_context(lock_folder(self._root))
            self._exit.callback(shutil.rmtree, self._root, ignore_errors=True)
            threading.Thread(target=self._sweep, name="delete-old-jobs", daemon=True).start()
        return self._root

    def get(self, job_id: str) -> Job:
        """Return a job. Raises NotFound if there is none of that id, or it was deleted."""
        job = self._jobs.get(job_id)
        if job is None or self._is_old(job):
            raise NotFound("there is no such job; tagged tables are deleted after a while")
        return job

    def remove(self, job_id: str) -> None:
        """Stop a job and delete its files. Raises NotFound if there is none of that id."""
        self._drop(self.get(job_id))

    def _drop(self, job: Job) -> None:
        job.stopped.set()
        self._jobs.pop(job.shown.id, None)
        if job.ended < math.inf:  # otherwise its thread does so when it ends
            job.delete_files()

    def _is_old(self, job: Job) -> bool:
        return time.monotonic() - job.ended > 60 * self._settings.job_minutes

    def _sweep(self) -> None:
        """Delete jobs that ended long enough ago, even if nobody asks for them."""
        while not self._closed.wait(_SWEEP):
            for job in list(self._jobs.values()):
                if self._is_old(job):
                    self._drop(job)

    def close(self, seconds: float = 10.0) -> bool:
        """Stop all jobs, delete their files, and wait for their threads. Returns True if all have ended.

        A thread that is still running the model when the process exits would abort it.
        """
        until = time.monotonic() + seconds
        self._closed.set()
        for job in list(self._jobs.values()):
            self._drop(job)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._exit.close()
        return not self.active

    def _work(self, job: Job) -> None:
        shown = job.shown
        shown.state = "running"
        try:
            self._tag(job)
        except MmgcsError as error:
            text = str(error).replace(str(job.table), "the table").replace("with --columns", "in the column names, as")
            shown.error = text.replace("--columns", "columns")
        except OSError as error:
            LOG.error("a table failed", extra=describe_error(error))
            shown.error = "the server could not store the tagged table; try again later"
        except BaseException as error:  # a panic of polars is not an Exception, and must not leave the job running
            LOG.error("a table failed", extra=describe_error(error))
            shown.error = "the table cannot be read; check that its format matches its extension"
        job.ended = time.monotonic()
        shown.state = "done" if shown.error is None else "failed"
        if job.stopped.is_set():
            job.delete_files()

    def _tag(self, job: Job) -> None:
        shown = job.shown
        largest = 4 * self._settings.max_table
        shown.rows = count_films(job.table, job.columns, largest, self._settings.max_rows, job.stopped)
        if job.stopped.is_set():  # it was not fully counted, so it may be too large to read
            raise MmgcsError("stopped")
        # A path in a stranger's table must not make the server read its own files.
        table = FilmTable(job.table, columns=job.columns, poster_paths=False)

        def predict(chunks: Iterator[list[Film]]) -> Iterator[tuple[list[Film], list[Prediction]]]:
            for films in chunks:
                if job.stopped.is_set():
                    raise MmgcsError("stopped")
                shown.films += len(films)
                with self._turn:
                    predictions = self._predict(films)
                rows = zip(films[: PREVIEW - len(shown.preview)], predictions, strict=False)
                shown.preview = [*shown.preview, *(_preview(film, prediction) for film, prediction in rows)]
                yield films, predictions

        def update(summary: TagSummary) -> None:
            shown.done, shown.errors, shown.unsure = summary.films, summary.in_error, summary.unsure
            shown.genres = dict(Counter(summary.genres).most_common())
            shown.share = round(shown.done / max(1, shown.rows or 0), 4)

        with open_file_sink(table, job.out, self._classifier) as sink:
            Pipeline(self._classifier, predict=predict).run(table.chunks(BATCH), sink, update)


def _preview(film: Film, prediction: Prediction) -> PreviewOut:
    fine = prediction.error is None
    return PreviewOut(
        id=film.id or "",
        title=film.title,
        genres=list(prediction.genres),
        confidence=prediction.confidence if fine else None,
        sure=prediction.sure if fine else None,
        error=prediction.error,
    )
