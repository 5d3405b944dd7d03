"""Films in and out: tables (CSV, JSONL, Parquet) and media libraries (NFO)."""

from mmgcs.catalog.formats import PACKED, register_format
from mmgcs.catalog.readers import READERS
from mmgcs.catalog.records import FIXED, record
from mmgcs.catalog.rows import RowReader, sources_of
from mmgcs.catalog.tables import CHUNK, STDIN, FilmTable, need_column, open_films, read_films
from mmgcs.catalog.writers import LISTS, WRITERS, Kept, json_line, kind_of, write_list, write_table

__all__ = [
    "CHUNK",
    "FIXED",
    "LISTS",
    "PACKED",
    "READERS",
    "STDIN",
    "WRITERS",
    "FilmTable",
    "Kept",
    "RowReader",
    "json_line",
    "kind_of",
    "need_column",
    "open_films",
    "read_films",
    "record",
    "register_format",
    "sources_of",
    "write_list",
    "write_table",
]
