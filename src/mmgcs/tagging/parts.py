"""The work of a cluster in parts: runs of films of one shard, each read, tagged and written whole, by anyone, any time.

A part's number depends on its shard alone, so a part that is done twice, because a worker was killed or a run was
continued, comes out under the same name. It counts as done when the note beside it is there, which is written last.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mmgcs.errors import UsageError
from mmgcs.film import Film
from mmgcs.runtime import Classifier
from mmgcs.runtime.batch import Summary, predict_chunks
from mmgcs.tables import CHUNK, FIXED, FilmTable, Kept, json_line, record, sources_of, write_table
from mmgcs.tables.records import plain
from mmgcs.tagging.storage import Folder, Shard, local_copy, parent

NOTES = "_parts"
"""Where the notes of finished parts lie; readers of Parquet folders pass over names with an underscore."""
PART_FILMS = 16 * CHUNK
PART_BYTES = 32 * 2**20
"""A part ends after this many films, or this many bytes of posters that its table itself holds."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker knows.

    Attributes:
        shards: the tables.
        out: the address of the folder of results.
        posters: the address of the folder of posters; None for the folder of each shard.
        columns: the columns of the tables, each with the kinds of value that its output column is of.
        delimiter: what separates the fields of a CSV.
        part_films: films a part.
        done: numbers of the parts of each shard that are written already.
        complete: shards of which nothing is missing.
    """

    shards: tuple[Shard, ...]
    out: str
    posters: str | None
    columns: dict[str, tuple[str, ...]]
    delimiter: str | None = None
    part_films: int = PART_FILMS
    done: dict[int, frozenset[int]] = dataclasses.field(default_factory=dict)
    complete: frozenset[int] = frozenset()

    def posters_of(self, shard: int) -> str:
        """The address of the folder that a shard's posters are relative to."""
        return self.posters if self.posters is not None else parent(self.shards[shard].address)


@dataclass(frozen=True, slots=True)
class Part:
    """Films of one shard.

    Attributes:
        shard: the shard's place in the job.
        number: the part's place in the shard.
        last: whether the shard ends with it.
        films: the films, as `pack` makes them.
    """

    shard: int
    number: int
    last: bool
    films: bytes

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"part-{self.shard:05}-{self.number:05}.parquet"


def read_parts(job: Job, shard: int) -> Iterator[Part]:
    """Read a shard's films in parts, without those that are done.

    Raises:
        UsageError: the shard has other columns than the first one, or cannot be read.
    """
    posters = job.posters_of(shard)
    done = job.done.get(shard, frozenset())
    with tempfile.TemporaryDirectory(prefix="mmgcs-shard-") as scratch:
        # Posters elsewhere are looked for under an empty folder: what leads out of it would lead out of theirs.
        root = Path(posters) if Folder(posters).local else Path(scratch) / "posters"
        root.mkdir(exist_ok=True, parents=True)
        with local_copy(job.shards[shard], Path(scratch)) as path:
            table = FilmTable(path, posters=root, delimiter=job.delimiter)
            if surplus := sorted(set(table.columns) - set(job.columns)):
                raise UsageError(
                    f"{job.shards[shard].address} has the column {surplus[0]!r}, which the first table has not; "
                    f"tag it by itself"
                )
            gathered: list[list[Film]] = []
            number, size, waiting = 0, 0, None
            for chunk in table.chunks():
                if waiting is not None:
                    yield waiting
                    waiting = None
                gathered.append(chunk)
                size += sum(len(film.poster) for film in chunk if isinstance(film.poster, bytes))
                if len(gathered) * CHUNK >= job.part_films or size >= PART_BYTES:
                    if number not in done:
                        waiting = Part(shard, number, False, pack(gathered, root))
                    gathered, size, number = [], 0, number + 1
            if waiting is not None and not gathered:
                yield dataclasses.replace(waiting, last=True)
            elif (gathered or number == 0) and number not in done:
                yield Part(shard, number, True, pack(gathered, root))


def write_part(job: Job, part: Part, classifier: Classifier, *, workers: int = 1) -> dict[str, Any]:
    """Tag a part and write it as Parquet, then its note. Returns the note.

    Args:
        job: the job.
        part: the films.
        classifier: the model.
        workers: threads that read plots and decode posters.
    """
    out = Folder(job.out)
    note_name = f"{NOTES}/{part.name}.json"
    try:
        note: dict[str, Any] = json.loads(out.read(note_name))
    except FileNotFoundError:
        pass
    else:
        return note
    began, cores, summary = time.time(), time.process_time(), Summary()
    chunks = unpack(part.films, Folder(job.posters_of(part.shard)))
    sources = sources_of(tuple(job.columns))
    with tempfile.TemporaryDirectory(prefix="mmgcs-part-") as scratch:
        records = Path(scratch) / "records.jsonl"
        with records.open("wb") as handle:
            for films, predictions in predict_chunks(classifier, chunks, workers=workers):
                for film, prediction in zip(films, predictions, strict=True):
                    handle.write(json_line(_as_kinds(record(film, prediction, sources), job.columns)))
                    summary.add(prediction)
        table = Path(scratch) / part.name
        kept = {f"given_{name}" if name in FIXED else name: kinds for name, kinds in job.columns.items()}
        for field in ("id", "genres"):
            kept.pop(f"given_{sources.get(field, '')}", None)
        write_table(records, table, Kept(classifier.genres, kept))
        data = table.read_bytes()
    out.write(part.name, data)
    summary.seconds = time.time() - began
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
    """The notes of the parts that are done, in order."""
    return [json.loads(out.read(f"{NOTES}/{name}")) for name in out.names(NOTES) if name.endswith(".json")]


def pack(chunks: Iterable[list[Film]], posters: Path) -> bytes:
    """Films as bytes that may travel: JSON, a chunk a line, posters by their path below `posters`."""
    return b"".join(json_line({"films": [_packed(film, posters) for film in chunk]}) for chunk in chunks)


def _packed(film: Film, posters: Path) -> dict[str, Any]:
    value = {field.name: getattr(film, field.name) for field in fields(film)}
    if isinstance(film.poster, bytes):
        value["poster"] = {"bytes": base64.b64encode(film.poster).decode("ascii")}
    elif film.poster is not None:
        value["poster"] = {"path": film.poster.relative_to(posters).as_posix()}
    value["extra"] = plain(film.extra)
    return {name: item for name, item in value.items() if item not in (None, (), {})}


def unpack(data: bytes, posters: Folder) -> Iterator[list[Film]]:
    """The films that `pack` packed, a chunk at a time, with posters from a folder anywhere."""
    for line in data.splitlines():
        yield [_unpacked(value, posters) for value in json.loads(line)["films"]]


def _unpacked(value: dict[str, Any], posters: Folder) -> Film:
    for name in ("genres", "warnings"):
        if name in value:
            value[name] = tuple(value[name])
    poster = value.pop("poster", None)
    if poster is None:
        return Film(**value)
    if "bytes" in poster:
        return Film(**value, poster=base64.b64decode(poster["bytes"]))
    if posters.local:
        return Film(**value, poster=Path(posters.path(poster["path"])))
    try:
        return Film(**value, poster=posters.read(poster["path"]))
    except OSError as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        problem = f"the poster {posters.address}/{poster['path']} {why}; check the path"
    if value.get("plot"):
        value["warnings"] = (*value.get("warnings", ()), problem)
        return Film(**value)
    value.setdefault("problem", problem)
    return Film(**value)


def _as_kinds(row: dict[str, Any], columns: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """The row with whole numbers only where its column holds such: what a film has instead is told in its warnings."""
    for name, kinds in columns.items():
        if kinds == ("int",) and name in row and not isinstance(row[name], int):
            row[name] = None
    return row
