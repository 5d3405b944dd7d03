"""The work of a cluster in parts: some thousand films of one shard, read, tagged and written by any worker, any time.

A part's number depends on its shard alone, so a part that is done twice (a worker was killed, or a run was resumed) is
written under the same name. It counts as done once its note is there, which is written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.film import Film
from mmgcs.runtime import Classifier
from mmgcs.runtime.batch import predict_chunks
from mmgcs.tables import CHUNK, FilmTable, RecordBuilder, TableFile, write_table
from mmgcs.tagging.pipeline import Pipeline
from mmgcs.tagging.sinks import PART_FILMS, RowSink
from mmgcs.tagging.storage import Folder, parent

NOTES = "_parts"
"""Where the notes of finished parts are; readers of Parquet folders skip names with an underscore."""
PART_BYTES = 32 * 2**20
"""A part ends after `PART_FILMS` films, or this many bytes of posters that are stored in the table itself."""


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """What every worker knows.

    Attributes:
        shards: the tables.
        out: the address of the folder of results.
        posters: the address of the folder of posters; None for the folder of each shard.
        types: the columns of the tables, each with its type in the output.
        delimiter: what separates the fields of a CSV.
        columns: film field to the column it is read from.
        part_films: films per part.
        done: for each shard, the numbers of the parts that are written.
        complete: shards of which every part is written.
    """

    shards: tuple[TableFile, ...]
    out: str
    posters: str | None
    types: dict[str, Any]
    delimiter: str | None = None
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    part_films: int = PART_FILMS
    done: dict[int, frozenset[int]] = dataclasses.field(default_factory=dict)
    complete: frozenset[int] = frozenset()

    def posters_of(self, shard: int) -> str:
        """Return the address of the folder that a shard's posters are relative to."""
        return self.posters if self.posters is not None else parent(self.shards[shard].address)

    def open_shard(self, shard: int, scratch: Path, posters: Path) -> FilmTable:
        """Open a shard, after downloading it into `scratch` if it is remote."""
        file = self.shards[shard]
        path = file.local(scratch)
        return FilmTable(path, posters=posters, delimiter=self.delimiter, suffix=file.format, columns=self.columns)


@dataclass(frozen=True, slots=True)
class Part:
    """Films of one shard.

    Attributes:
        shard: the shard's place in the run.
        number: the part's place in the shard.
        last: True for the last part of the shard.
        films: the films in chunks, pickled: they only travel between the processes of one run.
    """

    shard: int
    number: int
    last: bool
    films: bytes

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"part-{self.shard:05}-{self.number:05}.parquet"


def read_parts(run: ClusterRun, shard: int) -> Iterator[Part]:
    """Read a shard's films in parts, without those that are done.

    Raises:
        UsageError: the shard has other columns than the first one, or cannot be read.
    """
    posters, done = Folder(run.posters_of(shard)), run.done.get(shard, frozenset())
    with tempfile.TemporaryDirectory(prefix="mmgcs-shard-") as scratch:
        # Remote posters are resolved in an empty folder: a path that leads out of it would lead out of theirs.
        root = Path(posters.path("")) if posters.local else Path(scratch) / "posters"
        root.mkdir(exist_ok=True, parents=True)
        table = run.open_shard(shard, Path(scratch), root)
        partition = run.shards[shard].partition  # columns that the names of the shard's folders give
        for name, kind in (column_types(table) | dict.fromkeys(partition, "text")).items():
            first = run.types.get(name)
            if first is None or (first != "text" and first != kind):
                what = f"has the column {name!r}, which the first table does not have"
                if first is not None:
                    what = f"has another type in the column {name!r} than the first table"
                raise UsageError(f"{run.shards[shard].address} {what}; tag it separately")
        gathered: list[list[Film]] = []
        number, size, waiting = 0, 0, None
        for chunk in table.chunks():
            if waiting is not None:
                yield waiting
                waiting = None
            gathered.append([_prepared(film, partition, None if posters.local else root) for film in chunk])
            size += sum(len(film.poster) for film in chunk if isinstance(film.poster, bytes))
            if len(gathered) * CHUNK >= run.part_films or size >= PART_BYTES:
                if number not in done:
                    waiting = Part(shard, number, False, pickle.dumps(gathered))
                gathered, size, number = [], 0, number + 1
        if waiting is not None and not gathered:
            yield replace(waiting, last=True)
        elif (gathered or number == 0) and number not in done:
            yield Part(shard, number, True, pickle.dumps(gathered))


def column_types(table: FilmTable) -> dict[str, Any]:
    """Return the type of each column in the output: text, unless the format declares another."""
    types = table.types or dict.fromkeys(table.columns, "text")
    return {name: "text" if str(kind) == "String" else kind for name, kind in types.items()}


def _prepared(film: Film, partition: Mapping[str, str | None], root: Path | None) -> Film:
    """Return the film with the columns of its partition; below a remote root, its poster's path as a relative one."""
    if root is not None and isinstance(film.poster, Path):
        film = replace(film, poster=film.poster.relative_to(root))
    return replace(film, record={**partition, **film.record}) if partition else film


def write_part(run: ClusterRun, part: Part, classifier: Classifier) -> dict[str, Any]:
    """Tag a part and write it as Parquet, then its note. Returns the note."""
    out = Folder(run.out)
    note_name = f"{NOTES}/{part.name}.json"
    try:
        note: dict[str, Any] = json.loads(out.read(note_name))
    except FileNotFoundError:
        pass
    else:
        return note
    began, cores = time.time(), time.process_time()
    posters = Folder(run.posters_of(part.shard))
    chunks: list[list[Film]] = pickle.loads(part.films)  # noqa: S301  made by `read_parts` of the same run
    source = ([film if posters.local else _fetched(film, posters) for film in films] for films in chunks)
    rows: list[dict[str, Any]] = []
    records = RecordBuilder(tuple(run.types), classifier.genres)
    pipeline = Pipeline(classifier, predict=lambda films: predict_chunks(classifier, films, workers=1))
    summary = pipeline.run(source, RowSink(records, rows.append))
    types = {records.columns[name]: kind for name, kind in run.types.items()} | records.types
    with tempfile.TemporaryDirectory(prefix="mmgcs-part-") as scratch:
        table = Path(scratch) / part.name
        write_table(rows, table, types)
        data = table.read_bytes()
    out.write(part.name, data)
    note = {
        "file": part.name,
        "shard": part.shard,
        "part": part.number,
        "last": part.last,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "began": began,
        "core_seconds": time.process_time() - cores,
        "summary": asdict(summary),
    }
    out.write(note_name, json.dumps(note).encode())
    return note


def read_notes(out: Folder) -> list[dict[str, Any]]:
    """Return the notes of the parts that are done, in order."""
    return [json.loads(out.read(f"{NOTES}/{name}")) for name in out.names(NOTES) if name.endswith(".json")]


def _fetched(film: Film, posters: Folder) -> Film:
    """Return the film with its poster's bytes from an object store."""
    if not isinstance(film.poster, Path):
        return film
    name = film.poster.as_posix()
    try:
        return replace(film, poster=posters.read(name))
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        problem = f"the poster {posters.address}/{name} {why}; check the path"
    if film.plot:
        return replace(film, poster=None, warnings=(*film.warnings, problem))
    return replace(film, poster=None, problem=film.problem or problem)
