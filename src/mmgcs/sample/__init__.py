"""The sample that ships with the package: real films, plots written for this project, and synthetic posters."""

from mmgcs.sample.films import sample_films, sample_table

__all__ = ["sample_films", "sample_table"]
