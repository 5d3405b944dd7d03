"""Films in and out: tables (CSV, JSONL, Parquet) and media libraries (NFO)."""

from mmgcs.tables.films import CHUNK, STDIN, FilmTable, need_column, open_films, read_films
from mmgcs.tables.formats import PACKED, register_format
from mmgcs.tables.readers import READERS
from mmgcs.tables.records import ANSWER_COLUMNS, RecordBuilder
from mmgcs.tables.rows import RowReader, sources_of
from mmgcs.tables.source import table_format, without_format
from mmgcs.tables.writers import WRITERS, infer_types, json_line, write_table

__all__ = [
    "ANSWER_COLUMNS",
    "CHUNK",
    "PACKED",
    "READERS",
    "STDIN",
    "WRITERS",
    "FilmTable",
    "RecordBuilder",
    "RowReader",
    "infer_types",
    "json_line",
    "need_column",
    "open_films",
    "read_films",
    "register_format",
    "sources_of",
    "table_format",
    "without_format",
    "write_table",
]
