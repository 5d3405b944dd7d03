"""SetFit on a few films per genre. Needs `pip install setfit`.

python benchmarks/peers/few_shot.py --data FILMS [--each 20] [--steps 200] [--batch 16]

A step of 16 pairs takes some 12 s of processor time on two cores without a GPU.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile

import numpy as np
from common import Stopwatch, arguments, plots, read, report

from mmgcs import Film
from mmgcs.genres import DEFAULT_GENRES
from mmgcs.labels import read_labels
from mmgcs.models.transformer import resolve_source


def draw(films: list[Film], each: int) -> list[Film]:
    """Films drawn until every genre has `each`."""
    counts = dict.fromkeys(DEFAULT_GENRES, 0)
    drawn = []
    for index in np.random.default_rng(0).permutation(len(films)):
        film = films[index]
        if any(counts.get(genre, each) < each for genre in film.genres or ()):
            drawn.append(film)
            for genre in film.genres or ():
                counts[genre] += 1
    return drawn


def main() -> None:
    parser = arguments("SetFit, few-shot")
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200, help="steps of the contrastive phase")
    parser.add_argument("--batch", type=int, default=16, help="pairs of plots a step")
    given = parser.parse_args()
    if importlib.util.find_spec("setfit") is None:
        sys.exit("setfit is not installed; pip install setfit")
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    films = {split: plots(found) for split, found in read(given).items()}
    watch = Stopwatch()
    few = draw(films["train"], given.each)
    model = SetFitModel.from_pretrained(resolve_source("all-MiniLM-L6-v2"), multi_target_strategy="one-vs-rest")
    model.model_body.max_seq_length = 128  # as ours; a plot of the median length has some 50 tokens
    data = Dataset.from_dict(
        {"text": [film.plot for film in few], "label": read_labels(few, DEFAULT_GENRES)[0].astype(int).tolist()}
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, batch_size=given.batch, max_steps=given.steps, report_to="none", save_strategy="no"
        )
        Trainer(model=model, args=settings, train_dataset=data).train()

    def logits(found: list[Film]) -> np.ndarray:
        clipped = np.clip(np.asarray(model.predict_proba([film.plot for film in found])), 1e-4, 1 - 1e-4)
        return np.log(clipped / (1 - clipped)).astype(np.float32)

    valid, test = ((logits(films[split]), films[split]) for split in ("valid", "test"))
    report(f"SetFit, {len(few)} films, {given.each} or more a genre", valid, test, watch)


if __name__ == "__main__":
    main()
