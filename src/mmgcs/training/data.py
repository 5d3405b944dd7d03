"""Films with labels, the views of them that training reads, and the batches."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmgcs.errors import UsageError
from mmgcs.files import sha256
from mmgcs.film import Film
from mmgcs.labels import LABEL_SOURCES, LabelSource, read_labels


@dataclass(frozen=True)
class Labelled:
    """Films with labels.

    Attributes:
        films: the films.
        genres: the genres, in the order of `truth`'s columns.
        truth: (films, genres) bool.
        known: (films, genres) bool; False where the film's label source does not say (`mmgcs.labels`).
        split: (films,) of "train", "valid", "test".
        sources: the label sources; the first is the one the model answers in the words of.
        source: (films,) int64, each film's place in `sources`.
        fingerprint: SHA-256 of the table the films came from.
    """

    films: list[Film]
    genres: tuple[str, ...]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_]
    split: NDArray[np.str_]
    sources: tuple[str, ...]
    source: NDArray[np.int64]
    fingerprint: str

    def rows(self, split: str, has: str | None = None) -> NDArray[np.int64]:
        """The rows of a split, of films that have the input `has` ("plot" or "poster") where it is given."""
        chosen = self.split == split
        if has is not None:
            chosen &= np.array([bool(getattr(film, has)) for film in self.films])
        return np.flatnonzero(chosen)

    def shares(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The share of films that have each genre (genres,), among the `rows` whose labels say."""
        known = self.known[rows]
        shares: NDArray[np.float32] = (self.truth[rows] & known).sum(0) / np.maximum(known.sum(0), 1)
        return shares.astype(np.float32)


def read_labelled(
    path: Path,
    posters: Path | None,
    genres: Sequence[str] | None,
    target_source: str | None,
    label_sources: Mapping[str, LabelSource] = LABEL_SOURCES,
) -> Labelled:
    """Read films with labels and splits.

    Args:
        path: the table.
        posters: the folder that its posters lie in.
        genres: the genres to learn; None for all that the data has.
        target_source: the label source to speak as; None for the commonest of `valid`.
        label_sources: what each source's labels leave unknown.

    Raises:
        UsageError: there is no column of genres, there are no splits, no film to train or choose on, or a genre
            without an example.
    """
    from mmgcs.tables import need_column, read_films

    films = [film for chunk in read_films(path, posters=posters) for film in chunk if film.problem is None]
    if not any(film.genres for film in films):
        need_column(path, "genres")
    films = [film for film in films if film.split and film.genres]
    if genres is None:
        genres = sorted({genre for film in films for genre in film.genres or ()})
    if len(genres) < 2:
        raise UsageError(f"{path} has {len(genres)} genres to learn; at least two are needed")
    column = {genre: index for index, genre in enumerate(genres)}
    truth, known = read_labels(films, genres, label_sources)
    split = np.array([film.split or "" for film in films])
    for name in ("train", "valid"):
        here = split == name
        if not here.any():
            raise UsageError(
                f"{path} has no film with genres and the split {name!r}; run `mmgcs data split` to make splits"
            )
        missing = [genre for genre in genres if not truth[here, column[genre]].any()]
        if missing:
            raise UsageError(
                f"{path} has no {name} film of {', '.join(missing)}; leave the genre out or add films of it"
            )
    labels = [film.labels or "" for film in films]
    speaks = target_source or Counter(label for label, name in zip(labels, split, strict=True) if name == "valid")
    target = speaks if isinstance(speaks, str) else speaks.most_common(1)[0][0]
    if target not in labels:
        known = ", ".join(sorted(set(labels)))
        raise UsageError(f"target_source is {target!r}; the data has the label sources {known}")
    sources = (target, *sorted(set(labels) - {target}))
    place = {name: index for index, name in enumerate(sources)}
    source = np.array([place[label] for label in labels], dtype=np.int64)
    return Labelled(films, tuple(genres), truth, known, split, sources, source, sha256(path))


def view_of(film: Film, view: int) -> Film:
    """One of the versions of a film that training alternates between: odd views have no title."""
    return replace(film, title=None) if view % 2 else film


def augment_pixels(pixels: Tensor, view: int) -> Tensor:
    """One of the versions of posters (B, H, W, 3): odd views are mirrored, those from 2 on zoomed and shifted."""
    if view % 2:
        pixels = pixels.flip(2)
    if view >= 2:
        height, width = pixels.shape[1:3]
        generator = torch.Generator().manual_seed(view)
        edge_y, edge_x = height // 8, width // 8
        top = int(torch.randint(0, edge_y + 1, (1,), generator=generator))
        left = int(torch.randint(0, edge_x + 1, (1,), generator=generator))
        crop = pixels[:, top : top + height - edge_y, left : left + width - edge_x].permute(0, 3, 1, 2).float()
        zoomed = torch.nn.functional.interpolate(crop, (height, width), mode="bilinear", antialias=True)
        pixels = zoomed.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return pixels


def batches_by_length(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, seed: int
) -> list[NDArray[np.int64]]:
    """Shuffled batches whose films have similar lengths, so that padding costs little.

    Films are shuffled, sorted by length within runs of 40 batches, cut, and the batches shuffled: the same for the
    same seed.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(rows)
    run = 40 * batch_size
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), run):
        part = order[start : start + run]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
    return [batches[index] for index in random.permutation(len(batches))]


class ResumableLoader:
    """Batches that can go on from any step, in the middle of an epoch too.

    Args:
        dataset: `BranchData`, or what has its `lengths` and `batch`.
        rows: the films.
        batch_size: films in a batch, of all processes together.
        seed: of the order.
        shuffle: another order in each epoch; without it the films stand by length, and every process gets them all.
        rank: the number of this process.
        world_size: processes that train together, each on every `world_size`-th film of a shuffled batch.
    """

    def __init__(
        self,
        dataset: Any,
        rows: NDArray[np.int64],
        batch_size: int,
        seed: int,
        *,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset = dataset
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        # Where the next iteration begins; the consumer stops by count, so no iterator of ours is sure to reach its end.
        self._next_epoch = 0
        self._start = 0

    def _batches(self) -> list[NDArray[np.int64]]:
        if self.shuffle:
            return batches_by_length(self.rows, self.dataset.lengths, self.batch_size, self.seed + self.epoch)
        order = self.rows[np.argsort(self.dataset.lengths[self.rows], kind="stable")]
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.epoch, start = self._next_epoch, self._start
        self._next_epoch, self._start = self.epoch + 1, 0
        batches = self._batches()
        for index in range(start, len(batches)):
            yield self._batch(batches[index], index) if self.shuffle else self.dataset.batch(batches[index], None)

    def _batch(self, rows: NDArray[np.int64], index: int) -> dict[str, Any]:
        seed = self.seed + 7919 * self.epoch + index
        if self.world_size == 1:
            batch: dict[str, Any] = self.dataset.batch(rows, seed)
            return batch
        own = rows[self.rank :: self.world_size]
        # A process must take part in every step: one that has no film takes the first, with a weight of nought.
        batch = self.dataset.batch(own if len(own) else rows[:1], seed)
        # The mean over processes of each one's weighted mean is then the mean over the batch.
        batch["weight"] = batch["weight"] * (len(own) * self.world_size / len(rows))
        return batch

    def go_to(self, step: int) -> None:
        """Begin with the batch of step `step` of the whole training, counted from 0."""
        self._next_epoch, self._start = divmod(step, len(self))


def fingerprint(parts: Iterable[object]) -> str:
    """A short name for what a cache was made from."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]
