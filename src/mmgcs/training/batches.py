"""The batches of one branch: prepared films, or the cached output of the encoder's frozen stem."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from mmgcs.errors import InputError, UsageError
from mmgcs.export import open_stem
from mmgcs.files import atomic_path
from mmgcs.film import Film
from mmgcs.models import Encoder
from mmgcs.preprocess import Prepared
from mmgcs.training.augment import Augmenter
from mmgcs.training.data import Labelled
from mmgcs.training.progress import track
from mmgcs.training.rundir import Log

CHUNK = 64
WORTHWHILE = 0.25
"""The share of the forward pass from which a frozen stem is cached. Below it, reading the cache saves too little: one
frozen layer of six takes 7 GB for 77,000 plots and saves a sixth of the time."""

Rows = NDArray[np.int64]
Stem = Callable[[dict[str, NDArray[Any]]], NDArray[Any]]
"""From the encoder's collated inputs to its hidden values."""


class BranchData:
    """The films that one branch is trained and validated on.

    Attributes:
        rows: rows of `data` whose input could be prepared.
        lengths: (films,) int64 of all films: tokens in the first view, 1 for posters, 0 without the input.
        unreadable: the reason for each film whose input could not be read.
        soft: (films, genres) float32, a teacher's probabilities, NaN where there are none; None without a teacher.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: Labelled,
        rows: Rows,
        *,
        views: int = 1,
        weights: Mapping[str, float] | None = None,
        augment: Augmenter | None = None,
        progress: bool = True,
    ) -> None:
        self.encoder = encoder
        self.data = data
        self.views = views
        self.unreadable: dict[str, str] = {}
        self.soft: NDArray[np.float32] | None = None
        self._plots = encoder.input == "plot"
        self._augment = augment or None
        self._weights = np.array([(weights or {}).get(name, 1.0) for name in data.sources], dtype=np.float32)
        self._preprocessor = encoder.preprocessor()
        self._progress = progress
        # Texts differ from view to view; pictures are prepared once and changed as tensors.
        self._prepared = [self._prepare(rows, view) for view in range(views if self._plots else 1)]
        self.rows = np.array(sorted(self._prepared[0]), dtype=np.int64)
        if not len(self.rows):
            why = next(iter(self.unreadable.values()), "there are none")
            raise UsageError(f"none of {len(rows)} {encoder.input}s could be read; the first: {why}")
        self.lengths = np.zeros(len(data.films), dtype=np.int64)
        self.lengths[self.rows] = [self._prepared[0][row].length for row in self.rows]
        self._cache: Path | None = None
        self._hidden: NDArray[np.float16] | None = None
        # Where the hidden values of each view of a film begin and end in the cache: (views, films, 2).
        self._spans: NDArray[np.int64] = np.zeros((0, 0, 2), dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped cache out: other processes map the file themselves."""
        return {**self.__dict__, "_hidden": None}

    def _prepare(self, rows: Rows, view: int) -> dict[int, Prepared]:
        def one(row: int) -> Prepared | None:
            film = self.data.films[row]
            try:
                return self._preprocessor.prepare([view_of(film, view) if self._plots else film])[0]
            except InputError as error:
                self.unreadable[film.id] = str(error)
                return None

        stage, unit = f"{self.encoder.input}, reading", f"{self.encoder.input}s"
        with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
            prepared = track(pool.map(one, rows), len(rows), stage, unit, enabled=self._progress)
            return {int(row): item for row, item in zip(rows, prepared, strict=True) if item is not None}

    def _items(self, rows: Rows, view: int, seeds: Iterable[int] | None) -> list[Prepared]:
        """Return the prepared inputs of one view, plots with the recipe's changes if there are seeds."""
        if seeds is not None and self._augment and self._plots:
            films = [view_of(self.data.films[row], view) for row in rows]
            return self._preprocessor.prepare([self._augment.plot(*pair) for pair in zip(films, seeds, strict=True)])
        return [self._prepared[view if self._plots else 0][int(row)] for row in rows]

    def _collate(self, items: list[Prepared], view: int, seed: int | None) -> dict[str, Tensor]:
        inputs = {name: torch.from_numpy(value) for name, value in self._preprocessor.collate(items).items()}
        if "pixels" in inputs:
            inputs["pixels"] = augment_pixels(inputs["pixels"], view)
            if self._augment and seed is not None:
                inputs["pixels"] = self._augment.posters(inputs["pixels"], seed)
        return inputs

    def cache_stem(self, folder: Path, device: torch.device, log: Log) -> None:
        """Compute the frozen stem's output once for every film and view, into a file that is then read instead.

        Args:
            folder: where the file is kept; one that is already there is used.
            device: the device to compute on.
            log: told the size, or why nothing is cached.
        """
        path, what = folder / "hidden.npy", self.encoder.input
        # One changed version of each film for each view after the first.
        items = [self._items(self.rows, view, self.rows * 8 + view if view else None) for view in range(self.views)]
        ends = np.cumsum([[item.length for item in view] for view in items]).reshape(self.views, -1)
        starts = np.concatenate([[0], ends.ravel()[:-1]]).reshape(ends.shape)
        if not path.is_file():
            stem = self._stem(device)
            shape = stem(self._arrays(items[0][:1], 0, None)).shape
            whole = (int(ends[-1, -1]), *shape[2 if self._plots else 1 :])
            size = int(np.prod(whole)) * 2
            folder.mkdir(parents=True, exist_ok=True)
            if size > 0.9 * shutil.disk_usage(folder).free:
                log(f"{what}: no room for a cache of {size / 1e9:.1f} GB in {folder}; training without it is slower")
                return
            log(f"{what}: caching the frozen part of the encoder, {size / 1e9:.2f} GB in {folder}")
            order = np.argsort(self.lengths[self.rows], kind="stable")
            chunks = [(view, start) for view in range(self.views) for start in range(0, len(order), CHUNK)]
            with atomic_path(path) as temporary:
                out = np.lib.format.open_memmap(temporary, "w+", np.float16, whole)
                for view, start in track(chunks, len(chunks), f"{what}, caching", "chunks", enabled=self._progress):
                    films = order[start : start + CHUNK]
                    seed = start + 1 if view else None
                    hidden = stem(self._arrays([items[view][film] for film in films], view, seed))
                    for film, value in zip(films, hidden, strict=True):
                        first, last = starts[view, film], ends[view, film]
                        out[first:last] = value[: last - first] if self._plots else value
                out.flush()
                del out
        self._cache = path
        self._spans = np.zeros((self.views, len(self.data.films), 2), dtype=np.int64)
        self._spans[:, self.rows] = np.stack([starts, ends], axis=2)

    def _arrays(self, items: list[Prepared], view: int, seed: int | None) -> dict[str, NDArray[Any]]:
        return {name: value.numpy() for name, value in self._collate(items, view, seed).items()}

    def _stem(self, device: torch.device) -> Stem:
        """Return a function that computes the encoder's stem."""
        encoder = self.encoder.eval().to(device)
        if device.type == "cpu" and not self._plots:
            return open_stem(encoder)  # many times faster than torch

        @torch.no_grad()
        def stem(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
            hidden = encoder.stem({name: torch.from_numpy(value).to(device) for name, value in inputs.items()})
            return hidden.half().cpu().numpy()

        return stem

    def batch(self, rows: Rows, seed: int | None) -> dict[str, Any]:
        """Return a batch: `hidden` or the encoder's inputs, `truth`, `known`, `source`, `weight`, and maybe `soft`.

        Args:
            rows: the films.
            seed: of the choice of view and of changes; None for the first view, unchanged.
        """
        view = 0 if seed is None else int(np.random.default_rng(seed).integers(self.views))
        batch: dict[str, Any] = {
            "truth": torch.from_numpy(self.data.truth[rows].astype(np.float32)),
            "known": torch.from_numpy(self.data.known[rows].astype(np.float32)),
            "source": torch.from_numpy(self.data.source[rows]),
            "weight": torch.from_numpy(self._weights[self.data.source[rows]]),
        }
        if self.soft is not None and seed is not None:
            batch["soft"] = torch.from_numpy(self.soft[rows])
        if self._cache is None:
            seeds = None if seed is None else range(seed, seed + len(rows))
            batch["inputs"] = self._collate(self._items(rows, view, seeds), view, seed)
            return batch
        if self._hidden is None:
            self._hidden = np.load(self._cache, mmap_mode="r")
        parts = [
            torch.from_numpy(self._hidden[first:last].astype(np.float32)) for first, last in self._spans[view, rows]
        ]
        if self._plots:
            batch["hidden"] = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
            ones = [torch.ones(len(part), dtype=torch.int64) for part in parts]
            batch["inputs"] = {"attention_mask": torch.nn.utils.rnn.pad_sequence(ones, batch_first=True)}
        else:
            batch["hidden"], batch["inputs"] = torch.cat(parts), {}
        return batch


def cache_pays(encoder: Encoder, epochs: float, views: int) -> bool:
    """Return True if caching the encoder's frozen stem saves noticeable time.

    The cache computes the stem once for each view; without it, every epoch computes it once.
    """
    return encoder.stem_is_frozen() and encoder.frozen_share() >= WORTHWHILE and epochs > views


class Batches:
    """Batches in an order that depends on seed and epoch alone, so that they can continue from any step.

    In distributed training, each process gets its share of every shuffled batch.

    Args:
        dataset: `BranchData`, or an object with its `lengths` and `batch`.
        rows: the films.
        batch_size: films in a batch, of all processes together.
        seed: of the order.
        shuffle: use another order in each epoch; otherwise films are sorted by length, and every process gets all.
    """

    def __init__(self, dataset: Any, rows: Rows, batch_size: int, seed: int, *, shuffle: bool) -> None:
        self.dataset = dataset
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        # Where the next iteration begins. Consumers count batches and may not exhaust an iterator.
        self._epoch = 0
        self._start = 0

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def skip_to(self, step: int) -> None:
        """Begin with the batch of step `step` of the whole training, counted from 0."""
        self._epoch, self._start = divmod(step, len(self))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch, start = self._epoch, self._start
        self._epoch, self._start = epoch + 1, 0
        lengths = self.dataset.lengths
        if not self.shuffle:
            order = self.rows[np.argsort(lengths[self.rows], kind="stable")]
            for first in range(0, len(order), self.batch_size):
                yield self.dataset.batch(order[first : first + self.batch_size], None)
            return
        batches = batches_by_length(self.rows, lengths, self.batch_size, self.seed + epoch)
        for index in range(start, len(batches)):
            yield self._share_of(batches[index], self.seed + 7919 * epoch + index)

    def _share_of(self, rows: Rows, seed: int) -> dict[str, Any]:
        world = distributed.get_world_size() if distributed.is_initialized() else 1
        own = rows[distributed.get_rank() :: world] if world > 1 else rows
        # Every process must take part in every step: one without a film takes the first, with a weight of zero.
        batch: dict[str, Any] = self.dataset.batch(own if len(own) else rows[:1], seed)
        if world > 1:  # the mean over processes of their weighted means is then the mean over the batch
            batch["weight"] = batch["weight"] * (len(own) * world / len(rows))
        return batch


def batches_by_length(rows: Rows, lengths: Rows, batch_size: int, seed: int) -> list[Rows]:
    """Return shuffled batches whose films have similar lengths, so that there is little padding.

    Films are shuffled, sorted by length within runs of 40 batches, cut, and the batches shuffled.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(rows)
    run = 40 * batch_size
    batches: list[Rows] = []
    for start in range(0, len(order), run):
        part = order[start : start + run]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
    return [batches[index] for index in random.permutation(len(batches))]


def view_of(film: Film, view: int) -> Film:
    """Return one of the versions of a film that training alternates between: odd views have no title."""
    return replace(film, title=None) if view % 2 else film


def augment_pixels(pixels: Tensor, view: int) -> Tensor:
    """Return one of the versions of posters (B, H, W, 3): odd views are mirrored, from 2 on zoomed and shifted."""
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
