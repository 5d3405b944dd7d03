"""The formats of tables: for each extension what reads it and what writes it.

A new format is one file and one call of `register_format`; every command then takes its extension.
"""

from __future__ import annotations

from mmgcs.tables.readers import READERS, Reader, read_csv, read_jsonl, read_parquet, read_tsv
from mmgcs.tables.writers import WRITERS, Writer, write_csv, write_jsonl, write_parquet, write_tsv

PACKED: set[str] = set()
"""Extensions of formats that unpack to more than their file holds, and say so only as they are read."""


def register_format(*extensions: str, read: Reader, write: Writer, packed: bool = False) -> None:
    """Make a format known by its extensions.

    Args:
        extensions: such as ".csv"; lower case.
        read: goes into `READERS`.
        write: goes into `WRITERS`.
        packed: whether the extensions go into `PACKED`.
    """
    READERS.register(*extensions)(read)
    WRITERS.register(*extensions)(write)
    if packed:
        PACKED.update(extensions)


register_format(".csv", read=read_csv, write=write_csv)
register_format(".tsv", ".tab", read=read_tsv, write=write_tsv)
register_format(".jsonl", ".ndjson", read=read_jsonl, write=write_jsonl)
register_format(".parquet", ".pq", read=read_parquet, write=write_parquet, packed=True)
