"""Films in and out: tables (CSV, JSONL, Parquet) and media libraries (NFO)."""

from mmgcs.tables.films import CHUNK, STDIN, FilmTable, need_column, open_films, read_films
from mmgcs.tables.formats import PACKED, register_format
from mmgcs.tables.readers import READERS
from mmgcs.tables.records import FIXED, record
from mmgcs.tables.rows import RowReader, sources_of
from mmgcs.tables.writers import LISTS, WRITERS, Kept, json_line, kind_of, write_list, write_table

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
