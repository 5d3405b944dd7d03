"""Tag many films: a source of films, a classifier, and a sink for the predictions."""

from mmgcs.tagging.api import tag
from mmgcs.tagging.pipeline import Pipeline, TagOptions
from mmgcs.tagging.sinks import FileSink, RowSink, check_columns, check_output, is_finished, partial_folder, tag_table
from mmgcs.tagging.summary import TagSummary

__all__ = [
    "FileSink",
    "Pipeline",
    "RowSink",
    "TagOptions",
    "TagSummary",
    "check_columns",
    "check_output",
    "is_finished",
    "partial_folder",
    "tag",
    "tag_table",
]
