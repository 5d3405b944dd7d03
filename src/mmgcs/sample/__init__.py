"""The sample that ships with the package: real films, plots written for this project, and synthetic posters."""

from mmgcs.sample.films import copy_sample, sample_films, sample_table

__all__ = ["copy_sample", "sample_films", "sample_table"]
