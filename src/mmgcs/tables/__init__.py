"""Read and write films: tables in all common formats, and databases.

Other packages can add formats through the entry point groups `mmgcs.readers` and `mmgcs.writers`. The name of an entry
point is the file extension, such as `.psv`.
"""

from typing import TYPE_CHECKING

from mmgcs.registry import lazy_exports
from mmgcs.tables import delimited, json_files  # noqa: F401  they register their readers
from mmgcs.tables.films import CHUNK, FilmTable, fetch_posters, read_films
from mmgcs.tables.frames import Frame, read_frame, table_columns
from mmgcs.tables.locations import Folder, find_tables, is_remote, normal_address
from mmgcs.tables.readers import PACKED, READERS
from mmgcs.tables.rows import ALIASES, RowReader, check_sources, sources_of
from mmgcs.tables.source import Row, spooled_stdin, table_format, without_format
from mmgcs.tables.writers import ANSWER_COLUMNS, WRITERS, RecordBuilder, infer_types, json_line, to_frame, write_table

if TYPE_CHECKING:
    from mmgcs.tables.databases import FilmDatabase

__all__ = [
    "ALIASES",
    "ANSWER_COLUMNS",
    "CHUNK",
    "PACKED",
    "READERS",
    "WRITERS",
    "FilmDatabase",
    "FilmTable",
    "Folder",
    "Frame",
    "RecordBuilder",
    "Row",
    "RowReader",
    "check_sources",
    "fetch_posters",
    "find_tables",
    "infer_types",
    "is_remote",
    "json_line",
    "normal_address",
    "read_films",
    "read_frame",
    "sources_of",
    "spooled_stdin",
    "table_columns",
    "table_format",
    "to_frame",
    "without_format",
    "write_table",
]

__getattr__ = lazy_exports(__name__, {"databases": ["FilmDatabase"]})  # SQLAlchemy is an extra

READERS.register_plugins("mmgcs.readers")
WRITERS.register_plugins("mmgcs.writers")
