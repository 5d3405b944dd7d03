"""Labelled films for training: reading data sets, cleaning, splits, posters and word vectors."""

from mmgcs.datasets.clean import clean, label_sets
from mmgcs.datasets.glove import GLOVE_URL, get_glove
from mmgcs.datasets.inspect import inspect_films
from mmgcs.datasets.posters import (
    FAILED,
    TMDB_BASE,
    PosterOptions,
    download_posters,
    is_with_posters,
    poster_files,
    poster_stem,
    poster_urls,
    with_posters,
)
from mmgcs.datasets.prepare import describe_preparation, prepare, report_path
from mmgcs.datasets.sources import (
    RAW_SCHEMA,
    SOURCES,
    check_writable,
    detect_source,
    read_raw_films,
    read_source,
    write_films,
)
from mmgcs.datasets.split import deviation, find_leaks, parse_shares, split_counts, split_films, stratify

__all__ = [
    "FAILED",
    "GLOVE_URL",
    "RAW_SCHEMA",
    "SOURCES",
    "TMDB_BASE",
    "PosterOptions",
    "check_writable",
    "clean",
    "describe_preparation",
    "detect_source",
    "deviation",
    "download_posters",
    "find_leaks",
    "get_glove",
    "inspect_films",
    "is_with_posters",
    "label_sets",
    "parse_shares",
    "poster_files",
    "poster_stem",
    "poster_urls",
    "prepare",
    "read_raw_films",
    "read_source",
    "report_path",
    "split_counts",
    "split_films",
    "stratify",
    "with_posters",
    "write_films",
]
