"""Fit one stage with Lightning: checkpoints, early stopping, loggers, several devices, progress."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import math
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from mmgcs.errors import MmgcsError, UsageError
from mmgcs.files import atomic_path, atomic_writer
from mmgcs.training.module import NotFiniteError
from mmgcs.training.progress import TrainingProgress
from mmgcs.training.recipe import Optimization, Recipe

Watch = Callable[[float], None]
"""Called with the score of each validation; an exception that it raises ends the stage."""

BEST, LAST = "best.ckpt", "last.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):  # type: ignore[misc]  # Lightning is untyped
    """Writes a checkpoint next to the old one and renames it, so that a kill or a full disk leaves the old one.

    Lightning moves a file from the system's temporary folder, which is a plain copy if that is another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`; on any error the old file stays."""
        del storage_options
        buffer = io.BytesIO()  # torch reports a disk that becomes full as an error of its own format
        torch.save(checkpoint, buffer)
        with atomic_writer(Path(path), "wb") as handle:
            handle.write(buffer.getbuffer())


class _Watcher(Callback):  # type: ignore[misc]  # Lightning is untyped
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        self._watch(float(trainer.callback_metrics["valid_map"]))


def fit(
    module: lightning.LightningModule,
    train_batches: Any,
    valid_batches: Any,
    settings: Optimization,
    recipe: Recipe,
    folder: Path,
    *,
    stage: str,
    devices: int = 1,
    progress: bool = True,
    watch: Watch | None = None,
) -> float:
    """Fit a module and leave it at its best weights. If `folder` has a checkpoint, continue from it.

    Args:
        module: the module.
        train_batches, valid_batches: its batches; `skip_to(step)` of the first is called to continue.
        settings: the stage's part of the recipe.
        recipe: the whole recipe.
        folder: the folder of checkpoints and curves.
        stage: its name, for progress.
        devices: processes (CPU) or GPUs.
        progress: show progress.
        watch: called with the score of each validation.

    Returns:
        The best macro average precision on `valid`.

    Raises:
        MmgcsError: the loss is not finite, or a process died; the last good checkpoint is kept.
        KeyboardInterrupt: the user pressed Ctrl-C; the last checkpoint is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best = ModelCheckpoint(
        folder,
        filename="best",
        monitor="valid_map",
        mode="max",
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    steps = ModelCheckpoint(
        folder, filename="last", every_n_train_steps=recipe.checkpoint_steps, enable_version_counter=False
    )
    stop = EarlyStopping("valid_map", mode="max", patience=settings.patience, check_on_train_epoch_end=False)
    callbacks = [stop, best, steps, TrainingProgress(stage, progress), *([_Watcher(watch)] if watch else [])]
    last = folder / LAST
    module.seed = recipe.seed
    if last.is_file():
        # Each step takes one batch. Lightning cannot continue in the middle of an iterable's epoch by itself.
        train_batches.skip_to(int(torch.load(last, map_location="cpu", weights_only=True)["global_step"]))
    with quiet_lightning(), _own_interrupts():
        trainer = lightning.Trainer(
            max_epochs=math.ceil(settings.epochs),
            limit_train_batches=settings.epochs if 0 < settings.epochs < 1 else 1.0,
            accelerator="gpu" if torch.cuda.is_available() else "cpu",
            devices=devices,
            strategy="ddp_spawn" if devices > 1 else "auto",
            use_distributed_sampler=False,
            precision=recipe.precision if recipe.precision != "auto" else fastest_precision(module),
            callbacks=callbacks,
            plugins=[AtomicCheckpoints()],
            logger=[
                CSVLogger(folder, name="curves", flush_logs_every_n_steps=20),
                TensorBoardLogger(folder, name="tensorboard", version=""),
            ],
            gradient_clip_val=settings.clip,
            val_check_interval=1.0 / settings.validations,
            num_sanity_val_steps=0,
            log_every_n_steps=20,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        try:
            trainer.fit(
                module, train_batches, valid_batches, ckpt_path=last if last.is_file() else None, weights_only=True
            )
        except NotFiniteError as error:
            _drop_bad_checkpoint(folder, error.step)
            raise
        except ProcessExitedException as error:
            raise MmgcsError(
                f"a training process ended ({error.signal_name or error.exit_code}); the last good checkpoint is "
                "kept: resume with --resume"
            ) from error
        except ProcessRaisedException as error:
            raise MmgcsError(str(error).strip().splitlines()[-1].partition(": ")[2]) from error
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
        if trainer.interrupted:
            raise KeyboardInterrupt
    state = torch.load(folder / BEST, map_location="cpu", weights_only=True)
    module.cpu().load_state_dict(state["state_dict"])
    draw_curves(folder, folder / "curves.png")
    return float(state["callbacks"][best.state_key]["best_model_score"])


def _drop_bad_checkpoint(folder: Path, step: int) -> None:
    """Replace a last checkpoint whose weights gave a loss that is not finite by the best one."""
    last, best = folder / LAST, folder / BEST
    if last.is_file() and torch.load(last, map_location="cpu", weights_only=True)["global_step"] >= step:
        if best.is_file():
            shutil.copyfile(best, last)
        else:
            last.unlink()


def check_devices(devices: int, batch_sizes: dict[str, int]) -> None:
    """Raise UsageError if there are fewer GPUs, or films in a batch, than processes."""
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise UsageError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs; give at most that")
    for key, size in batch_sizes.items():
        if size < devices:
            raise UsageError(
                f"--devices {devices}: {key} is {size}, so some devices would have no film; give fewer devices"
            )


def fastest_precision(module: nn.Module) -> Literal["32", "16-mixed", "bf16-mixed"]:
    """Return mixed precision if the device computes this module faster with it, otherwise 32 bits.

    A processor with bfloat16 instructions multiplies matrices about twice as fast with them, but convolutions become
    slower; so an encoder says by `matrices` which of them it mostly consists of.
    """
    if torch.cuda.is_available():
        return "16-mixed"
    can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    fast = can.get("avx512_bf16") or can.get("amx_bf16")
    return "bf16-mixed" if fast and getattr(getattr(module, "encoder", None), "matrices", False) else "32"


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's banners and its advice for authors of training scripts."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for category in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Restore the handling of Ctrl-C, which Lightning switches off after the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def read_curve(folder: Path, column: str) -> list[tuple[int, float]]:
    """Return the (step, value) pairs of a column of a stage's curves, by step; a resumed run has several files."""
    points: dict[int, float] = {}
    files = sorted((folder / "curves").glob("version_*/metrics.csv"), key=lambda file: file.stat().st_mtime)
    for metrics in files:
        with metrics.open(encoding="utf-8", newline="") as handle:
            points |= {int(row["step"]): float(row[column]) for row in csv.DictReader(handle) if row.get(column)}
    return sorted(points.items())


def draw_curves(folder: Path, picture: Path) -> None:
    """Draw the training loss and the validation score of a stage as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, column, label in zip(
        axes, ("train_loss", "valid_map"), ("training loss", "macro AP on valid"), strict=True
    ):
        points = read_curve(folder, column)
        marker = "." if column == "valid_map" else ""
        axis.plot([step for step, _ in points], [value for _, value in points], marker=marker)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.3)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)
