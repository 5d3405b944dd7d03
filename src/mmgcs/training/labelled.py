"""Films with labels and splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmgcs.errors import UsageError
from mmgcs.film import Film
from mmgcs.labels import LABEL_SOURCES, LabelSource, read_labels
from mmgcs.preprocess import ENGLISH, LANGUAGES, identify_language
from mmgcs.tables import FilmTable

LEAST_LANGUAGE = 0.02
"""The share of the training plots that must be in a language for a model to have learned it."""


@dataclass(frozen=True)
class Labelled:
    """Films with labels."""

    films: list[Film]
    genres: tuple[str, ...]  # in the order of `truth`'s columns
    truth: NDArray[np.bool_]  # (films, genres)
    known: NDArray[np.bool_]  # (films, genres), False where the label source leaves it open (`mmgcs.labels`)
    split: NDArray[np.str_]  # (films,) of "train", "valid", "test"
    sources: tuple[str, ...]  # the model predicts as the first of them labels
    source: NDArray[np.int64]  # (films,) int64, each film's index in `sources`
    fingerprint: str  # SHA-256 of the table the films came from
    problems: tuple[str, ...] = ()  # why rows of the table could not be read

    def rows(self, split: str, has: str | None = None) -> NDArray[np.int64]:
        """Return the rows of a split; with `has` ("plot" or "poster"), only of films that have that input."""
        chosen = self.split == split
        if has is not None:
            chosen &= np.array([bool(getattr(film, has)) for film in self.films])
        return np.flatnonzero(chosen)

    def shares(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the share of films that have each genre (genres,), among those of `rows` for which it is known."""
        known = self.known[rows]
        shares: NDArray[np.float32] = (self.truth[rows] & known).sum(0) / np.maximum(known.sum(0), 1)
        return shares.astype(np.float32)

    def weights(self, by_source: Mapping[str, float]) -> NDArray[np.float32]:
        """Return the weight of each film (films,) by the source of its labels; 1 for sources without a weight."""
        return np.array([by_source.get(name, 1.0) for name in self.sources], dtype=np.float32)[self.source]


def read_labelled(
    path: Path,
    posters: Path | None,
    genres: Sequence[str] | None,
    target_source: str | None,
    label_sources: Mapping[str, LabelSource] = LABEL_SOURCES,
    columns: Mapping[str, str] | None = None,
) -> Labelled:
    """Read films with labels and splits.

    Args:
        path: the table.
        posters: the folder that its posters lie in.
        genres: the genres to learn; None for all that the data has.
        target_source: the label source to predict as; None for the most common one in `valid`.
        label_sources: what each source's labels leave unknown.
        columns: film field to the column it is read from, where the names differ.

    Raises:
        UsageError: there is no column of genres, split train or valid is empty, or lacks one of the genres.
    """
    films, problems, checksum = _read(path, posters, columns)
    films = [film for film in films if film.split and film.genres]
    if genres is None:
        genres = sorted({genre for film in films for genre in film.genres or ()})
    if len(genres) < 2:
        raise UsageError(f"{path} has {len(genres)} genres to learn; at least two are needed")
    truth, known = read_labels(films, genres, label_sources)
    split = np.array([film.split or "" for film in films])
    for name in ("train", "valid"):
        here = split == name
        if not here.any():
            raise UsageError(
                f"{path} has no film with genres and the split {name!r}; run `mmgcs data split` to make splits"
            )
        missing = [genre for genre, there in zip(genres, truth[here].any(axis=0), strict=True) if not there]
        if missing:
            raise UsageError(
                f"{path} has no {name} film of {', '.join(missing)}; leave the genre out or add films of it"
            )
    labels = [film.labels or "" for film in films]
    common = Counter(film.labels or "" for film in films if film.split == "valid")
    target = target_source or common.most_common(1)[0][0]
    if target not in labels:
        found = ", ".join(sorted(set(labels)))
        raise UsageError(f"target_source is {target!r}; the data has the label sources {found}")
    sources = (target, *sorted(set(labels) - {target}))
    place = {name: index for index, name in enumerate(sources)}
    source = np.array([place[label] for label in labels], dtype=np.int64)
    return Labelled(films, tuple(genres), truth, known, split, sources, source, checksum, problems)


def read_own(
    path: Path,
    posters: Path | None,
    genres: Sequence[str] | None,
    least: int,
    label_sources: Mapping[str, LabelSource] = LABEL_SOURCES,
    columns: Mapping[str, str] | None = None,
) -> Labelled:
    """Read films with a user's own genres. Without films of split "train", those without a split become "train".

    Args:
        path, posters, label_sources, columns: as in `read_labelled`.
        genres: the genres to learn; None for all that at least `least` films have.
        least: the films that a genre needs.

    Raises:
        UsageError: there is no column of genres, fewer than two genres can be learned, or a requested genre has too
            few films.
    """
    films, problems, checksum = _read(path, posters, columns)
    return replace(own_labels(films, genres, least, str(path), checksum, label_sources), problems=problems)


def own_labels(
    films: Sequence[Film],
    genres: Sequence[str] | None,
    least: int,
    where: str,
    fingerprint: str = "",
    label_sources: Mapping[str, LabelSource] = LABEL_SOURCES,
) -> Labelled:
    """Return films with a user's own genres, as `read_own` reads them; `where` names their origin in errors."""
    films = [film for film in films if film.genres and (film.plot or film.poster)]
    if not any(film.split == "train" for film in films):
        films = [replace(film, split=film.split or "train") for film in films]
    films = [film for film in films if film.split in ("train", "valid", "test")]
    counts = Counter(genre for film in films if film.split != "test" for genre in film.genres or ())
    if genres is None:
        genres = sorted(genre for genre, count in counts.items() if count >= least)
    rare = [genre for genre in genres if counts[genre] < least]
    if rare:
        raise UsageError(f"{where} has fewer than {least} films of {', '.join(rare)}; add films or leave it out")
    if len(genres) < 2:
        raise UsageError(f"{where} has {len(genres)} genres with {least} films or more; at least two are needed")
    truth, known = read_labels(films, genres, label_sources)
    split = np.array([film.split or "" for film in films])
    zeros = np.zeros(len(films), dtype=np.int64)
    return Labelled(films, tuple(genres), truth, known, split, ("own",), zeros, fingerprint)


def learned_languages(films: Sequence[Film]) -> tuple[str, ...]:
    """Return the languages of at least `LEAST_LANGUAGE` of the training plots, most common first.

    They are identified on a sample of the plots, so the table needs no column of languages. Returns English if no plot
    is long enough to tell.
    """
    plots = [film.plot for film in films if film.split == "train" and film.plot]
    drawn = np.random.default_rng(0).permutation(len(plots))[:2000]
    counts = Counter(code for code in (identify_language(plots[index]) for index in drawn) if code in LANGUAGES)
    found = tuple(code for code, count in counts.most_common() if count >= LEAST_LANGUAGE * counts.total())
    return found or (ENGLISH,)


def _read(
    path: Path, posters: Path | None, columns: Mapping[str, str] | None
) -> tuple[list[Film], tuple[str, ...], str]:
    """Return a table's readable films, the problems of the other rows, and the table's fingerprint."""
    table = FilmTable(path, posters=posters, columns=columns)
    found = [film for chunk in table.chunks() for film in chunk]
    films = [film for film in found if film.problem is None]
    if not any(film.genres for film in films):
        table.need_genres()
    problems = tuple(film.problem for film in found if film.problem is not None)
    return films, problems, table.fingerprint()


def fingerprint(parts: Iterable[object]) -> str:
    """Return a short hash of what a cache was made from."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]
