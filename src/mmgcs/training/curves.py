"""A training's curves: a table that grows line by line, and its picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from mmgcs.files import atomic_path

COLUMNS = ("step", "epoch", "train_loss", "valid_map")


class Curves(Logger):  # type: ignore[misc]  # Lightning is untyped
    """Appends what is logged to `metrics.csv`, so that a resumed training goes on in the same table.

    Lightning's CSVLogger begins the table anew. Rows that a kill made stand twice are equal but for their number.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def name(self) -> str:
        """The table's name."""
        return self._path.stem

    @property
    def version(self) -> str:
        """None: a stage has one table."""
        return ""

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The recipe is in run.json already."""

    @rank_zero_only  # type: ignore[untyped-decorator]
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {"step": step, **{name: value for name, value in metrics.items() if name in COLUMNS}}
        if len(row) == 1 + ("epoch" in row):
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS)
            if handle.tell() == 0:
                writer.writeheader()
            writer.writerow(row)


def read_curve(metrics: Path, column: str) -> list[tuple[int, float]]:
    """The (step, value) pairs of a column, by step, each step once."""
    if not metrics.is_file():
        return []
    with metrics.open(encoding="utf-8", newline="") as handle:
        # A row cut short by a kill has None in its last columns.
        points = {int(row["step"]): float(row[column]) for row in csv.DictReader(handle) if row.get(column)}
    return sorted(points.items())


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw the training loss and the validation score of `metrics.csv` as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, column, label in ((left, "train_loss", "training loss"), (right, "valid_map", "macro AP on valid")):
        points = read_curve(metrics, column)
        marker = "." if column == "valid_map" else ""
        axis.plot([step for step, _ in points], [value for _, value in points], marker=marker)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.3)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)
