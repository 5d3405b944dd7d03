"""Tag many films: a source of films, a classifier, and a sink for the predictions."""

from typing import TYPE_CHECKING

from mmgcs.registry import lazy_exports
from mmgcs.tagging.pipeline import Pipeline, TagOptions, TagSummary
from mmgcs.tagging.python import tag
from mmgcs.tagging.sinks import (
    FolderSink,
    RowSink,
    check_needed_columns,
    check_output,
    is_finished,
    open_file_sink,
    partial_folder,
    tag_table,
)

if TYPE_CHECKING:
    from mmgcs.tagging.database import tag_database
    from mmgcs.tagging.enrich import enricher
    from mmgcs.tagging.ray_engine import tag_with_ray

__all__ = [
    "FolderSink",
    "Pipeline",
    "RowSink",
    "TagOptions",
    "TagSummary",
    "check_needed_columns",
    "check_output",
    "enricher",
    "is_finished",
    "open_file_sink",
    "partial_folder",
    "tag",
    "tag_database",
    "tag_table",
    "tag_with_ray",
]

# Databases and Ray are extras; `enrich` loads an HTTP client.
__getattr__ = lazy_exports(
    __name__, {"database": ["tag_database"], "enrich": ["enricher"], "ray_engine": ["tag_with_ray"]}
)
