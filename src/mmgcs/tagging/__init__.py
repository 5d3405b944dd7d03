"""Tagging many films: a source of films, a classifier, and a sink for the answers."""
