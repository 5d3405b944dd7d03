"""Tagging on a Ray cluster; the extra `mmgcs[scale]`."""
