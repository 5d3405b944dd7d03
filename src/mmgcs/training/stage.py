"""One stage of a training: Lightning's trainer with checkpoints, early stopping, curves and progress."""

from __future__ import annotations

import csv
import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from mmgcs.errors import MmgcsError
from mmgcs.files import atomic_path
from mmgcs.training.recipe import Optimization, Recipe

BEST = "best.ckpt"
LAST = "last.ckpt"
LOGGERS = ((CSVLogger, "curves"), (TensorBoardLogger, "tensorboard"))


@contextmanager
def quiet_lightning() -> Any:
    """Lightning's advice on data loaders and its banners are for authors of training scripts, not for users."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def fit(
    module: lightning.LightningModule,
    train_batches: Any,
    valid_batches: Any,
    settings: Optimization,
    recipe: Recipe,
    folder: Path,
    *,
    devices: int = 1,
    progress: bool = True,
) -> float:
    """Fit a module, going on from `folder`'s last checkpoint where it has one, and leave it at its best weights.

    Returns:
        The best macro average precision on `valid`.

    Raises:
        MmgcsError: the loss is not finite, or the disk is full; the last good checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    steps = ModelCheckpoint(
        folder,
        filename="step",
        every_n_train_steps=recipe.checkpoint_steps,
        save_last=True,
        save_top_k=1,
        monitor=None,
        enable_version_counter=False,
    )
    best = ModelCheckpoint(
        folder, filename="best", monitor="valid_map", mode="max", save_top_k=1, enable_version_counter=False
    )
    stop = EarlyStopping("valid_map", mode="max", patience=settings.patience, check_finite=True)
    callbacks: list[Any] = [steps, best, stop]
    if progress:
        callbacks.append(RichProgressBar() if _is_terminal() else TQDMProgressBar(refresh_rate=100))
    on_gpu = torch.cuda.is_available()
    precision = recipe.precision if recipe.precision != "auto" else ("16-mixed" if on_gpu else "32")
    with quiet_lightning():
        trainer = lightning.Trainer(
            max_epochs=settings.epochs,
            accelerator="gpu" if on_gpu else "cpu",
            devices=devices,
            strategy="ddp" if devices > 1 else "auto",
            precision=precision,
            callbacks=callbacks,
            logger=[logger(folder, name=name, version="") for logger, name in LOGGERS],
            gradient_clip_val=settings.clip,
            val_check_interval=1.0 / settings.validations,
            num_sanity_val_steps=0,
            log_every_n_steps=20,
            enable_model_summary=False,
            enable_progress_bar=progress,
        )
        last = folder / LAST
        try:
            trainer.fit(
                module, train_batches, valid_batches, ckpt_path=last if last.is_file() else None, weights_only=True
            )
        except (OSError, RuntimeError) as error:
            if "No space left" in str(error) or getattr(error, "errno", None) == 28:
                raise MmgcsError(f"the disk is full; free space and train again with --resume ({folder})") from error
            raise
        if trainer.interrupted:
            raise KeyboardInterrupt
        state = torch.load(folder / BEST, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    draw_curves(folder / "curves" / "metrics.csv", folder / "curves.png")
    return float(best.best_model_score or 0.0)


def _is_terminal() -> bool:
    import sys

    return sys.stderr.isatty() and sys.stdout.isatty()


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw the training loss and the validation score of `metrics.csv` as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with metrics.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, column, label in ((left, "train_loss", "training loss"), (right, "valid_map", "macro AP on valid")):
        points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
        marker = "." if column == "valid_map" else ""
        axis.plot([step for step, _ in points], [value for _, value in points], marker=marker)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.3)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)
