"""Checkpoints that are whole or not there, and of which the last good one survives."""

from __future__ import annotations

import errno
import io
import shutil
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from mmgcs.files import atomic_path, atomic_writer

BEST = "best.ckpt"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"

# EFBIG is what a limit on the size of files says.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_TEXTS = ("No space left on device", "File too large", "Disk quota exceeded")


class AtomicCheckpoints(TorchCheckpointIO):  # type: ignore[misc]  # Lightning is untyped
    """Writes a checkpoint beside the old one and renames it over; the last but one is kept as `previous.ckpt`.

    Lightning's own way moves a file out of the system's temporary folder, which between file systems is a copy that a
    kill or a full disk cuts short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`; on any error the old file stays."""
        del storage_options
        target = Path(path)
        # Through memory: torch reports a disk that fills up while it writes as an error of its own format.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic_writer(target, "wb") as handle:
            handle.write(buffer.getbuffer())
            if target.name == LAST and target.is_file():
                _keep(target, target.with_name(PREVIOUS))


def _keep(path: Path, other: Path) -> None:
    """Give the content of a file, which is about to be replaced, another name."""
    other.unlink(missing_ok=True)
    try:
        other.hardlink_to(path)
    except OSError:  # exFAT and many network disks have no links
        with atomic_path(other) as temporary:
            shutil.copyfile(path, temporary)


class StepCheckpoints(Checkpoint):  # type: ignore[misc]  # Lightning is untyped
    """Saves `last.ckpt` every few steps; where a look at `valid` follows a step, after that look.

    Lightning's ModelCheckpoint saves before the look, which a training that goes on from there never takes.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self._path = folder / LAST
        self._steps = steps
        self._saved = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where this training begins."""
        del pl_module
        self._saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, unless a look at `valid` comes next."""
        del pl_module, outputs, batch
        if (batch_idx + 1) % trainer.val_check_batch:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what includes the look at `valid`."""
        del pl_module
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step - self._saved >= self._steps:
            trainer.save_checkpoint(self._path)
            self._saved = trainer.global_step


def forget_untried(folder: Path, step: int) -> None:
    """Put the last but one checkpoint in the place of the last where that was made at `step`.

    For a loss that is no number: the weights that gave it are those of the last update, so a checkpoint of them is not
    a good one.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if last.is_file() and torch.load(last, map_location="cpu", weights_only=True)["global_step"] >= step:
        if previous.is_file():
            previous.replace(last)
        else:
            last.unlink()


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that no more can be written."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(text in str(error) for text in _FULL_TEXTS):  # libraries in Rust and C++ have no errno
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
