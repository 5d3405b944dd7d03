"""The sample that ships with the package: sixty films that the default model was not trained on.

The plots were written for this project. Thirty films have their original posters, of 1903 to 1930, which are in the
public domain in the United States.
"""

from mmgcs.sample.films import copy_sample, sample_films, sample_table

__all__ = ["copy_sample", "sample_films", "sample_table"]
