"""Readers of published data sets, one per file. Each registers itself in `mmgcs.datasets.base.SOURCES`."""

from mmgcs.registry import import_modules

import_modules(__name__)
