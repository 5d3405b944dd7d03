"""Films in and out: tables of every usual format, and databases."""

from mmgcs.tables.films import CHUNK, STDIN, FilmTable, need_column, open_films, read_films
from mmgcs.tables.formats import PACKED, register_format
from mmgcs.tables.frames import Frame, read_frame, table_columns
from mmgcs.tables.locate import TableFile, find_tables
from mmgcs.tables.readers import READERS, Table
from mmgcs.tables.records import ANSWER_COLUMNS, RecordBuilder
from mmgcs.tables.rows import ALIASES, RowReader, sources_of
from mmgcs.tables.source import Row, table_format, without_format
from mmgcs.tables.writers import WRITERS, infer_types, json_line, write_table

__all__ = [
    "ALIASES",
    "ANSWER_COLUMNS",
    "CHUNK",
    "PACKED",
    "READERS",
    "STDIN",
    "WRITERS",
    "FilmTable",
    "Frame",
    "RecordBuilder",
    "Row",
    "RowReader",
    "Table",
    "TableFile",
    "find_tables",
    "infer_types",
    "json_line",
    "need_column",
    "open_films",
    "read_films",
    "read_frame",
    "register_format",
    "sources_of",
    "table_columns",
    "table_format",
    "without_format",
    "write_table",
]
