"""The batches of one branch: prepared films, or the cached output of the encoder's frozen stem."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
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
from mmgcs.progress import track
from mmgcs.training.augment import Augmenter
from mmgcs.training.labelled import Labelled
from mmgcs.training.rundir import Log

CHUNK = {"plot": 1024, "poster": 64}
"""Films that are prepared at once."""

Rows = NDArray[np.int64]


class BranchData:
    """The films that one branch is trained and validated on.

    Attributes:
        rows: the rows of `data` whose input could be read.
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
        self._weights = data.weights(weights or {})
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

    def _prepare(self, rows: Rows, view: int) -> dict[int, Prepared]:
        """Return the prepared inputs of one view, by row."""

        def one(row: int) -> Prepared | None:
            film = self.data.films[row]
            try:
                return self._preprocessor.prepare([view_of(film, view) if self._plots else film])[0]
            except InputError as error:
                self.unreadable[film.id] = str(error)
                return None

        def some(chunk: Rows) -> list[Prepared | None]:
            if self._plots:  # the tokenizer encodes a list of texts on all cores
                try:
                    return [*self._preprocessor.prepare([view_of(self.data.films[row], view) for row in chunk])]
                except InputError:  # one of them cannot be used
                    return [one(row) for row in chunk]
            return list(pool.map(one, chunk))  # Pillow decodes outside the interpreter's lock

        size, name = CHUNK[self.encoder.input], self.encoder.input
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        with ThreadPoolExecutor() as pool:
            tracked = track(chunks, f"reading {len(rows):,} {name}s", len(chunks), enabled=self._progress)
            items = [item for chunk in tracked for item in some(chunk)]
        return {int(row): item for row, item in zip(rows, items, strict=True) if item is not None}

    def _items(self, rows: Rows, view: int, seeds: Iterable[int] | None) -> list[Prepared]:
        """Return the prepared inputs of one view; with seeds, plots are augmented."""
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
        """Compute the output of the frozen stem for every view, and keep it in `folder`; an existing file is used."""
        path, encoder = folder / "hidden.npy", self.encoder.eval().to(device)
        run = open_stem(encoder) if device.type == "cpu" else None  # onnxruntime is many times faster than torch here

        @torch.no_grad()
        def stem(view: int, start: int) -> NDArray[Any]:
            items = self._items(self.rows[start : start + CHUNK["poster"]], view, None)
            # Posters are augmented once for each view after the first.
            inputs = self._collate(items, view, start + 1 if view else None)
            if run is not None:
                return run({"pixels": inputs["pixels"].numpy()})
            return encoder.stem({"pixels": inputs["pixels"].to(device)}).half().cpu().numpy()

        if not path.is_file():
            count = len(self.rows)
            shape = (self.views * count, *stem(0, 0).shape[1:])
            size = int(np.prod(shape)) * 2
            folder.mkdir(parents=True, exist_ok=True)
            if size > 0.9 * shutil.disk_usage(folder).free:
                log(f"poster: no room for a cache of {size / 1e9:.1f} GB in {folder}; training without it is slower")
                return
            log(f"poster: caching the frozen part of the encoder, {size / 1e9:.2f} GB in {folder}")
            chunks = [(view, start) for view in range(self.views) for start in range(0, count, CHUNK["poster"])]
            with atomic_path(path) as temporary:
                out = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
                for view, start in track(chunks, "poster, caching", len(chunks), enabled=self._progress):
                    hidden = stem(view, start)
                    out[view * count + start : view * count + start + len(hidden)] = hidden
                out.flush()
                del out
        self._cache = path

    def batch(self, rows: Rows, seed: int | None) -> dict[str, Any]:
        """Return a batch: the encoder's `inputs` or the cached `hidden`, `truth`, `known`, `source`, `weight`, `soft`.

        Args:
            rows: the films.
            seed: the seed of the view and of augmentations; None for the first view, not augmented.
        """
        view = 0 if seed is None else int(np.random.default_rng(seed).integers(self.views))
        batch: dict[str, Any] = {
            "truth": torch.from_numpy(self.data.truth[rows].astype(np.float32)),
            "known": torch.from_numpy(self.data.known[rows].astype(np.float32)),
            "source": torch.from_numpy(self.data.source[rows]),
            "weight": torch.from_numpy(self._weights[rows]),
            "inputs": {},
        }
        if self.soft is not None and seed is not None:
            batch["soft"] = torch.from_numpy(self.soft[rows])
        if self._cache is None:
            seeds = None if seed is None else range(seed, seed + len(rows))
            batch["inputs"] = self._collate(self._items(rows, view, seeds), view, seed)
        else:
            places = view * len(self.rows) + np.searchsorted(self.rows, rows)
            batch["hidden"] = torch.from_numpy(np.load(self._cache, mmap_mode="r")[places].astype(np.float32))
        return batch


def cache_pays(encoder: Encoder, epochs: float, views: int) -> bool:
    """Return True if caching the frozen stem of an encoder of posters saves noticeable time.

    The cache computes the stem once per view; without it, every epoch computes it once. If the stem takes less than a
    quarter of the forward pass, reading the cache saves too little.
    """
    return encoder.input == "poster" and encoder.frozen_share() >= 0.25 and epochs > views


class Batches:
    """Batches in an order that depends on seed and epoch alone, so that they can continue from any step.

    In distributed training, each process gets its share of every shuffled batch.

    Args:
        dataset: `BranchData`, or an object with its `lengths` and `batch`.
        rows: the films.
        batch_size: films in a batch, of all processes together.
        seed: the seed of the order.
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
        """Continue with the batch of training step `step`, counted from 0."""
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
        # Every process must take part in every step: without a film of its own, it gets the first with zero weight.
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
    """Return one view of a film: odd views have no title."""
    return replace(film, title=None) if view % 2 else film


def augment_pixels(pixels: Tensor, view: int) -> Tensor:
    """Return one view of posters (B, H, W, 3): odd views are mirrored; from view 2 on, they are zoomed and shifted."""
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
