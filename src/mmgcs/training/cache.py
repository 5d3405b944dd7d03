"""A branch's training data: prepared once, and where half of the encoder is frozen, that half computed once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mmgcs.errors import InputError, UsageError
from mmgcs.files import atomic_path, write_json
from mmgcs.models import Encoder
from mmgcs.preprocess import Prepared
from mmgcs.training.augment import Augmenter
from mmgcs.training.data import Labelled, augment_pixels, view_of

T = TypeVar("T")

CHUNK = 64


class BranchData:
    """The films that one branch learns from and is judged on.

    Attributes:
        rows: rows of `data` whose input could be prepared.
        lengths: (films,) int64 of all films, tokens in the first view, 1 for posters, 0 where there is no input.
        unreadable: for each film whose input could not be read, why.
        soft: (films, genres) float32, what a teacher says of all films, NaN where it says nothing; None without one.
    """

    def __init__(
        self,
        encoder: Encoder,
        data: Labelled,
        rows: NDArray[np.int64],
        views: int,
        weights: Mapping[str, float],
        folder: Path,
        *,
        cache: bool,
        augment: Augmenter | None = None,
        device: torch.device | None = None,
        progress: bool = True,
    ) -> None:
        self.encoder = encoder
        self.data = data
        self.views = views
        self.unreadable: dict[str, str] = {}
        self.soft: NDArray[np.float32] | None = None
        self._augment = augment or None
        self._fresh = not (cache and encoder.stem_is_frozen())  # nothing is kept, so every batch can differ
        self._weights = np.array([weights.get(name, 1.0) for name in data.sources], dtype=np.float32)
        self._preprocessor = encoder.preprocessor()
        self._folder = folder
        self._progress = progress
        folder.mkdir(parents=True, exist_ok=True)
        # Texts differ from view to view; pictures are prepared once and changed as tensors.
        self._prepared_views = views if encoder.input == "plot" else 1
        self._prepared: list[dict[int, Prepared]] = [self._prepare(rows, view) for view in range(self._prepared_views)]
        self.rows = np.array(sorted(self._prepared[0]), dtype=np.int64)
        self.lengths = np.zeros(len(data.films), dtype=np.int64)
        for row in self.rows:
            self.lengths[row] = self._prepared[0][int(row)].length
        if not len(self.rows):
            why = next(iter(self.unreadable.values()), "there are none")
            raise UsageError(f"none of {len(rows)} {encoder.input}s could be read; the first: {why}")
        self._hidden: NDArray[np.float16] | None = None
        self._offsets: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)
        self._place = {int(row): index for index, row in enumerate(self.rows)}
        if cache and encoder.stem_is_frozen():
            self._fill_cache(device or torch.device("cpu"))

    def _track(self, items: Iterable[T], what: str, total: int) -> Iterable[T]:
        """A progress bar on stderr, which stdout's results do not mix with."""
        return track(items, what, total, console=Console(stderr=True), disable=not self._progress)

    def _prepare(self, rows: NDArray[np.int64], view: int) -> dict[int, Prepared]:
        def one(row: int) -> Prepared | None:
            film = self.data.films[row]
            try:
                if self.encoder.input == "plot":
                    film = view_of(film, view)
                    if self._augment and view and not self._fresh:
                        film = self._augment.plot(film, view + 8 * row)
                return self._preprocessor.prepare([film])[0]
            except InputError as error:
                self.unreadable[film.id] = str(error)
                return None

        with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
            chosen = [int(row) for row in rows]
            prepared = self._track(pool.map(one, chosen), f"reading {self.encoder.input}s", len(chosen))
            return {row: item for row, item in zip(chosen, prepared, strict=True) if item is not None}

    def _inputs(self, rows: NDArray[np.int64], view: int, seed: int | None) -> dict[str, Tensor]:
        items = [self._prepared[view % self._prepared_views][int(row)] for row in rows]
        if self._augment and seed is not None and self.encoder.input == "plot" and self._fresh:
            films = [view_of(self.data.films[row], view) for row in rows]
            items = self._preprocessor.prepare([self._augment.plot(f, seed + i) for i, f in enumerate(films)])
        inputs = {name: torch.from_numpy(value) for name, value in self._preprocessor.collate(items).items()}
        if "pixels" in inputs:
            inputs["pixels"] = augment_pixels(inputs["pixels"], view)
            if self._augment and seed is not None:
                inputs["pixels"] = self._augment.posters(inputs["pixels"], seed)
        return inputs

    @torch.no_grad()
    def _fill_cache(self, device: torch.device) -> None:
        path, index = self._folder / "hidden.npy", self._folder / "hidden.json"
        order = self.rows[np.argsort(self.lengths[self.rows], kind="stable")]
        offsets = np.zeros((self.views, len(self.rows) + 1), dtype=np.int64)
        total = 0
        for view in range(self.views):
            items = self._prepared[view % self._prepared_views]
            ends = np.cumsum([items[int(row)].length for row in self.rows])
            offsets[view, 0] = total
            offsets[view, 1:] = total + ends
            total += int(ends[-1])
        self._offsets = offsets
        if index.is_file():
            self._hidden = np.load(path, mmap_mode="r")
            return
        encoder = self.encoder
        assert isinstance(encoder, torch.nn.Module)
        encoder.eval().to(device)
        out: np.memmap[Any, np.dtype[np.float16]] | None = None
        chunks = [(view, start) for view in range(self.views) for start in range(0, len(order), CHUNK)]
        with atomic_path(path) as temporary:
            for view, start in self._track(chunks, f"computing the frozen half on {self.encoder.input}s", len(chunks)):
                rows = order[start : start + CHUNK]
                inputs = {
                    name: value.to(device)
                    for name, value in self._inputs(rows, view, start + 1 if view else None).items()
                }
                hidden = encoder.stem(inputs).half().cpu().numpy()
                trailing = hidden.shape[2:] if self.encoder.input == "plot" else hidden.shape[1:]
                if out is None:
                    out = np.lib.format.open_memmap(temporary, "w+", np.float16, (total, *trailing))
                    # A disk that fills up under a mapped file kills the process; asked for in one go, it is an error.
                    if hasattr(os, "posix_fallocate"):  # not on every system
                        with temporary.open("r+b") as handle:
                            os.posix_fallocate(handle.fileno(), 0, temporary.stat().st_size)
                for row, value in zip(rows, hidden, strict=True):
                    first, last = self._span(int(row), view)
                    out[first:last] = value[: last - first] if self.encoder.input == "plot" else value[None]
            assert out is not None
            out.flush()
            del out
        write_json(index, {"films": len(self.rows), "views": self.views})
        self._hidden = np.load(path, mmap_mode="r")

    def _span(self, row: int, view: int) -> tuple[int, int]:
        place = self._place[row]
        return int(self._offsets[view, place]), int(self._offsets[view, place + 1])

    def batch(self, rows: NDArray[np.int64], seed: int | None) -> dict[str, Any]:
        """A batch: `hidden` or the encoder's inputs, `truth`, `source`, `weight` and, where there is a teacher, `soft`.

        Args:
            rows: the films.
            seed: of the choice of view; None for the first view of every film.
        """
        view = 0 if seed is None else int(np.random.default_rng(seed).integers(self.views))
        batch: dict[str, Any] = {
            "truth": torch.from_numpy(self.data.truth[rows].astype(np.float32)),
            "known": torch.from_numpy(self.data.known[rows].astype(np.float32)),
            "source": torch.from_numpy(self.data.source[rows]),
            "weight": torch.from_numpy(self._weights[self.data.source[rows]]),
            "rows": torch.from_numpy(rows),
        }
        if self.soft is not None and seed is not None:
            batch["soft"] = torch.from_numpy(self.soft[rows])
        if self._hidden is None:
            batch["inputs"] = self._inputs(rows, view, seed)
            return batch
        spans = [self._span(int(row), view) for row in rows]
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
