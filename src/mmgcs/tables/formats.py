"""The formats of tables: what reads and what writes each file extension.

A new format is one file and one call of `register_format`; every command then takes its extension.
"""

from __future__ import annotations

from mmgcs.tables import delimited, json_files  # noqa: F401  they register their readers
from mmgcs.tables.readers import READERS, Reader
from mmgcs.tables.writers import WRITERS, Writer, write_csv, write_json, write_jsonl, write_parquet, write_tsv

PACKED: set[str] = {".parquet", ".pq", ".xlsx"}
"""Extensions of formats that may unpack to much more than the size of their file."""


def register_format(
    *extensions: str, read: Reader | None = None, write: Writer | None = None, packed: bool = False
) -> None:
    """Register what reads and writes a format.

    Args:
        extensions: such as ".csv"; lower case.
        read: the reader, added to `READERS`.
        write: the writer, added to `WRITERS`.
        packed: True if files may unpack to much more than their size.
    """
    if read is not None:
        READERS.register(*extensions)(read)
    if write is not None:
        WRITERS.register(*extensions)(write)
    if packed:
        PACKED.update(extensions)


register_format(".csv", write=write_csv)
register_format(".tsv", ".tab", ".txt", write=write_tsv)
register_format(".jsonl", ".ndjson", write=write_jsonl)
register_format(".json", write=write_json)
register_format(".parquet", ".pq", write=write_parquet)
