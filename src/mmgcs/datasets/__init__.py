"""Labelled sources of films, learning side: readers, cleaning, balancing, splitting, downloads."""

from mmgcs.datasets import sources  # noqa: F401 - its modules register their readers
from mmgcs.datasets.base import RAW_SCHEMA, SOURCES, SPLITS, Raw, detect_source
from mmgcs.datasets.clean import LabelSets, clean, label_sets
from mmgcs.datasets.films import read_films, write_films
from mmgcs.datasets.prepare import PrepareOptions, describe, prepare
from mmgcs.datasets.split import Leak, find_leaks, parse_shares, split_films, stratify

__all__ = [
    "RAW_SCHEMA",
    "SOURCES",
    "SPLITS",
    "LabelSets",
    "Leak",
    "PrepareOptions",
    "Raw",
    "clean",
    "describe",
    "detect_source",
    "find_leaks",
    "label_sets",
    "parse_shares",
    "prepare",
    "read_films",
    "split_films",
    "stratify",
    "write_films",
]
