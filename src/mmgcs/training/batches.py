"""The batches of one branch: prepared films, or the cached output of the encoder's frozen stem."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from mmgcs.errors import InputError, UsageError
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
        rows: NDArray[np.int64],
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
        self._augment = augment or None
        self._weights = np.array([(weights or {}).get(name, 1.0) for name in data.sources], dtype=np.float32)
        self._preprocessor = encoder.preprocessor()
        self._progress = progress
        # Texts differ from view to view; pictures are prepared once and changed as tensors.
        self._prepared_views = views if encoder.input == "plot" else 1
        self._prepared: list[dict[int, Prepared]] = [self._prepare(rows, view) for view in range(self._prepared_views)]
        self.rows = np.array(sorted(self._prepared[0]), dtype=np.int64)
        if not len(self.rows):
            why = next(iter(self.unreadable.values()), "there are none")
            raise UsageError(f"none of {len(rows)} {encoder.input}s could be read; the first: {why}")
        self.lengths = np.zeros(len(data.films), dtype=np.int64)
        for row in self.rows:
            self.lengths[row] = self._prepared[0][int(row)].length
        self._cache: Path | None = None
        self._hidden: NDArray[np.float16] | None = None
        self._offsets: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)
        self._place = {int(row): index for index, row in enumerate(self.rows)}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped cache out: other processes map the file themselves."""
        return {**self.__dict__, "_hidden": None}

    def _prepare(self, rows: NDArray[np.int64], view: int) -> dict[int, Prepared]:
        def one(row: int) -> Prepared | None:
            film = self.data.films[row]
            try:
                return self._preprocessor.prepare([view_of(film, view) if self.encoder.input == "plot" else film])[0]
            except InputError as error:
                self.unreadable[film.id] = str(error)
                return None

        chosen = [int(row) for row in rows]
        with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
            stage, unit = f"{self.encoder.input}, reading", f"{self.encoder.input}s"
            prepared = track(pool.map(one, chosen), stage, unit, enabled=self._progress, total=len(chosen))
            return {row: item for row, item in zip(chosen, prepared, strict=True) if item is not None}

    def _inputs(self, rows: NDArray[np.int64], view: int, seed: int | None) -> dict[str, Tensor]:
        items = [self._prepared[view % self._prepared_views][int(row)] for row in rows]
        if self._augment and seed is not None and self.encoder.input == "plot":
            films = [view_of(self.data.films[row], view) for row in rows]
            items = self._preprocessor.prepare([self._augment.plot(f, seed + i) for i, f in enumerate(films)])
        return self._collate(items, view, seed)

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
        # One augmented version of each film per view; a view's films keep one length.
        items = [self._cached_items(view) for view in range(self.views)]
        ends = np.cumsum([item.length for view in items for item in view])
        self._offsets = np.concatenate([[0], ends]).astype(np.int64)
        if not path.is_file():
            self.encoder.eval().to(device)
            shape = self._stem(items[0][:1], 0, None, device).shape
            trailing = shape[2:] if what == "plot" else shape[1:]
            size = int(ends[-1]) * int(np.prod(trailing)) * 2
            folder.mkdir(parents=True, exist_ok=True)
            if size > 0.9 * shutil.disk_usage(folder).free:
                log(f"{what}: no room for a cache of {size / 1e9:.1f} GB in {folder}; training without it is slower")
                self._offsets = np.zeros((0, 0), dtype=np.int64)
                return
            log(f"{what}: caching the frozen part of the encoder, {size / 1e9:.2f} GB in {folder}")
            self._write_cache(path, items, (int(ends[-1]), *trailing), device)
        self._cache = path

    def _cached_items(self, view: int) -> list[Prepared]:
        if not (self._augment and view and self.encoder.input == "plot"):
            prepared = self._prepared[view % self._prepared_views]
            return [prepared[int(row)] for row in self.rows]
        films = [self._augment.plot(view_of(self.data.films[row], view), view + 8 * int(row)) for row in self.rows]
        return self._preprocessor.prepare(films)

    @torch.no_grad()
    def _stem(self, items: list[Prepared], view: int, seed: int | None, device: torch.device) -> NDArray[np.float16]:
        inputs = {name: value.to(device) for name, value in self._collate(items, view, seed).items()}
        hidden: NDArray[np.float16] = self.encoder.stem(inputs).half().cpu().numpy()
        return hidden

    def _write_cache(
        self, path: Path, items: list[list[Prepared]], shape: tuple[int, ...], device: torch.device
    ) -> None:
        order = np.argsort(self.lengths[self.rows], kind="stable")
        chunks = [(view, start) for view in range(self.views) for start in range(0, len(order), CHUNK)]
        stage, plots = f"{self.encoder.input}, caching", self.encoder.input == "plot"
        with atomic_path(path) as temporary:
            out = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
            for view, start in track(chunks, stage, "chunks", enabled=self._progress):
                places = order[start : start + CHUNK]
                hidden = self._stem([items[view][place] for place in places], view, start + 1 if view else None, device)
                for place, value in zip(places, hidden, strict=True):
                    first, last = self._span(int(place), view)
                    out[first:last] = value[: last - first] if plots else value[None]
            out.flush()
            del out

    def _span(self, place: int, view: int) -> tuple[int, int]:
        index = view * len(self.rows) + place
        return int(self._offsets[index]), int(self._offsets[index + 1])

    def batch(self, rows: NDArray[np.int64], seed: int | None) -> dict[str, Any]:
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
            batch["inputs"] = self._inputs(rows, view, seed)
            return batch
        if self._hidden is None:
            self._hidden = np.load(self._cache, mmap_mode="r")
        spans = [self._span(self._place[int(row)], view) for row in rows]
        if self.encoder.input != "plot":
            batch["hidden"] = torch.from_numpy(np.concatenate([self._hidden[a:b] for a, b in spans])).float()
            batch["inputs"] = {}
            return batch
        longest = max(b - a for a, b in spans)
        hidden = np.zeros((len(rows), longest, self._hidden.shape[1]), dtype=np.float16)
        mask = torch.zeros(len(rows), longest, dtype=torch.int64)
        for index, (a, b) in enumerate(spans):
            hidden[index, : b - a] = self._hidden[a:b]
            mask[index, : b - a] = 1
        batch["hidden"] = torch.from_numpy(hidden).float()
        batch["inputs"] = {"attention_mask": mask}
        return batch


def cache_pays(encoder: Encoder, epochs: int, views: int) -> bool:
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

    def __init__(self, dataset: Any, rows: NDArray[np.int64], batch_size: int, seed: int, *, shuffle: bool) -> None:
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

    def _share_of(self, rows: NDArray[np.int64], seed: int) -> dict[str, Any]:
        world = distributed.get_world_size() if distributed.is_initialized() else 1
        if world == 1:
            batch: dict[str, Any] = self.dataset.batch(rows, seed)
            return batch
        own = rows[distributed.get_rank() :: world]
        # Every process must take part in every step: one without a film takes the first, with a weight of zero.
        batch = self.dataset.batch(own if len(own) else rows[:1], seed)
        # The mean over processes of their weighted means is then the mean over the batch.
        batch["weight"] = batch["weight"] * (len(own) * world / len(rows))
        return batch


def batches_by_length(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, seed: int
) -> list[NDArray[np.int64]]:
    """Return shuffled batches whose films have similar lengths, so that there is little padding.

    Films are shuffled, sorted by length within runs of 40 batches, cut, and the batches shuffled.
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
