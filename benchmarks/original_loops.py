"""Compare the time of an epoch with the original system's loops, at equal validation scores. Prints ratios.

    python benchmarks/original_loops.py text FILMS --glove FILE [--films 2000] [--epochs 3] [--set plot.training.…]
    python benchmarks/original_loops.py poster FILMS --posters DIR [--films 600] [--epochs 3]

The reference is a faithful re-implementation of the original's training scripts: plots cut into words one by one in
every epoch, padded to 200 whatever their length, batches of 32 in no order, a bidirectional LSTM over all 200 steps,
attention, frozen GloVe; posters decoded whole from their files in every epoch, cropped, mirrored and jittered with
Pillow, batches of 16 through the whole network. For posters both sides train the same network from the same ImageNet
weights (EfficientNet-Lite0, whose weights are a package), so that only the loop differs.

Ours is `mmgcs train`'s own code; of plots with the recipe text-quick. Its epochs and the reference's alternate, so that
a busy machine slows both.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from sklearn.metrics import average_precision_score, f1_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmgcs.machine import cores
from mmgcs.models import ENCODERS
from mmgcs.training.batches import Batches, BranchData
from mmgcs.training.branch import fit_branch, learn_words, make_encoder
from mmgcs.training.labelled import Labelled, read_labelled
from mmgcs.training.recipe import Recipe, read_recipe
from mmgcs.training.rundir import Run
from mmgcs.word_vectors import vectors_of

PAD_TO = 200
WORDS = 20_000


class Taken(NamedTuple):
    """Seconds on the clock, and seconds of this process's work, which a busy machine stretches less."""

    clock: float
    work: float


def now() -> Taken:
    return Taken(time.perf_counter(), time.process_time())


def since(begun: Taken) -> Taken:
    return Taken(*(b - a for a, b in zip(begun, now(), strict=True)))


class OriginalPlots(Dataset):
    """One plot at a time: lower case, words, numbers, padding to 200."""

    def __init__(self, data: Labelled, rows: np.ndarray, words: dict[str, int]) -> None:
        self.data, self.rows, self.words = data, rows, words

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self.rows[index]
        ids = [self.words.get(word, 1) for word in original_words(self.data.films[row].plot or "")][:PAD_TO]
        ids = ids + [0] * (PAD_TO - len(ids))
        return torch.tensor(ids, dtype=torch.long), torch.tensor(self.data.truth[row], dtype=torch.float32)


def original_words(plot: str) -> list[str]:
    return re.sub(r"[^a-z0-9\s]", " ", plot.lower()).split()


class OriginalTextModel(nn.Module):
    """Frozen GloVe, a bidirectional LSTM over all 200 steps, attention over them, dropout 0.3."""

    def __init__(self, vectors: torch.Tensor, genres: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(vectors, freeze=True, padding_idx=0)
        self.lstm = nn.LSTM(vectors.shape[1], 128, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(256, 1)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(256, genres)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(self.embedding(ids))  # (B, 200, 256)
        weights = torch.softmax(self.attention(states), 1)
        return self.head(self.dropout((weights * states).sum(1)))


class OriginalPosters(Dataset):
    """One poster at a time, decoded from its file; cropped, mirrored and jittered for training."""

    def __init__(self, data: Labelled, rows: np.ndarray, size: tuple[int, int], train: bool) -> None:
        self.data, self.rows, self.size, self.train = data, rows, size, train

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self.rows[index]
        height, width = self.size
        picture = Image.open(self.data.films[row].poster).convert("RGB")
        if self.train:
            picture = picture.resize((width * 8 // 7, height * 8 // 7))
            left, top = random.randint(0, picture.width - width), random.randint(0, picture.height - height)
            picture = picture.crop((left, top, left + width, top + height))
            if random.random() < 0.5:
                picture = ImageOps.mirror(picture)
            for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                picture = change(picture).enhance(random.uniform(0.8, 1.2))
        else:
            picture = picture.resize((width, height))
        return torch.from_numpy(np.asarray(picture).copy()), torch.tensor(self.data.truth[row], dtype=torch.float32)


class OriginalPosterModel(nn.Module):
    """The same network, run from the first pixel on in every step."""

    def __init__(self, encoder: Any, genres: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.width, genres)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        inputs = {"pixels": pixels}
        return self.head(self.encoder.tail(self.encoder.stem(inputs), inputs))


class Original:
    """The original's loop: an epoch over the training films, then one over the validation films."""

    def __init__(self, model: nn.Module, train: Dataset, valid: Dataset, batch: int, rates: list[dict[str, Any]]):
        self.model = model
        self.train = DataLoader(train, batch, shuffle=True)
        self.valid = DataLoader(valid, batch)
        self.optimizer = torch.optim.Adam(rates)
        self.loss = nn.BCEWithLogitsLoss()
        self.scores: list[tuple[float, float]] = []

    @torch.inference_mode(False)
    @torch.enable_grad()
    def epoch(self) -> Taken:
        begun = now()
        self.model.train()
        for inputs, truth in self.train:
            self.optimizer.zero_grad()
            self.loss(self.model(inputs), truth).backward()
            self.optimizer.step()
        self.model.eval()
        with torch.no_grad():
            parts = [(self.model(inputs), truth) for inputs, truth in self.valid]
        taken = since(begun)
        logits, truth = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        self.scores.append(scores(logits, truth))
        return taken


def scores(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Micro-F1 with the best single threshold, and macro average precision."""
    order = [f1_score(truth, logits >= cut, average="micro") for cut in np.quantile(logits, np.linspace(0.5, 0.95, 46))]
    return max(order), average_precision_score(truth, logits, average="macro")


def subset(data: Labelled, has: str, films: int) -> Labelled:
    """The first films, by chance, of the target source that have a plot or poster, and a fifth as many to choose on."""
    train = np.intersect1d(data.rows("train", has), np.flatnonzero(data.source == 0))
    chosen = np.random.default_rng(0).permutation(train)[:films]
    valid = np.random.default_rng(1).permutation(data.rows("valid", has))[: max(200, films // 5)]
    rows = np.sort(np.concatenate([chosen, valid]))
    pick = {"truth": data.truth[rows], "split": data.split[rows], "source": data.source[rows]}
    return replace(data, films=[data.films[row] for row in rows], **pick)


def compare(name: str, data: Labelled, recipe: Recipe, original: Original, target: str) -> None:
    """Train ours; after each of its epochs comes one of the original's."""
    branch = recipe.branches[name]
    ours: list[Taken] = []
    theirs: list[Taken] = []
    mark = now()

    def turn(score: float) -> None:
        nonlocal mark
        ours.append(since(mark))
        theirs.append(original.epoch())
        print(f"  epoch {len(ours)}: ours {ours[-1].clock:.1f} s (mAP {score:.3f}), original {theirs[-1].clock:.1f} s "
              f"(mAP {original.scores[-1][1]:.3f})", flush=True)  # fmt: skip
        mark = now()

    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, data, Path(folder), "", lambda line: None, progress=False)
        mark = now()
        learned = fit_branch(run, name, branch, np.zeros(0, dtype=np.int64), turn)
        share = pipeline_work(run, name) / statistics.median(taken.work for taken in ours[1:])
    micro, precision = scores(*predict(name, data, learned))
    best = max(original.scores)
    print(f"{len(learned.rows):,} films to learn from, {len(learned.valid):,} to choose on, {cores()} cores, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    for what in Taken._fields:
        mine, other = ([getattr(taken, what) for taken in side[1:]] for side in (ours, theirs))
        ratio = statistics.median(b / a for a, b in zip(mine, other, strict=True))
        print(f"epoch after the first, seconds ({what}): ours {statistics.median(mine):.2f}, original "
              f"{statistics.median(other):.2f}, ratio {ratio:.1f}   target {target}")  # fmt: skip
    print(f"first epoch, with all preparation: ours {ours[0].clock:.1f} s, original {theirs[0].clock:.1f} s")
    print(f"micro-F1 on valid: ours {micro:.3f}, original {best[0]:.3f}; macro AP: {precision:.3f}, {best[1]:.3f}")
    print(f"input pipeline: {share:.1%} of an epoch   target ≤ 15%")


def predict(name: str, data: Labelled, learned: Any) -> tuple[np.ndarray, np.ndarray]:
    encoder = learned.encoder.eval()
    preprocessor = encoder.preprocessor()
    parts = []
    with torch.no_grad():
        for start in range(0, len(learned.valid), 64):
            rows = learned.valid[start : start + 64]
            arrays = preprocessor.collate(preprocessor.prepare([data.films[row] for row in rows]))
            inputs = {key: torch.from_numpy(value) for key, value in arrays.items()}
            parts.append(encoder.tail(encoder.stem(inputs), inputs) @ learned.head[0].T + learned.head[1])
    return torch.cat(parts).numpy(), data.truth[learned.valid]


def pipeline_work(run: Run, name: str) -> float:
    """Seconds of work that making every training batch of an epoch takes."""
    from mmgcs.training.augment import Augmenter

    branch = run.recipe.branches[name]
    encoder = make_encoder(branch)
    rows = run.data.rows("train", name)
    learn_words(encoder, run.data, rows)
    augment = Augmenter([(change.kind, change.options) for change in branch.augment], name)
    made = BranchData(encoder, run.data, rows, views=branch.views, augment=augment, progress=False)
    loader = Batches(made, made.rows, branch.training.batch_size, 0, shuffle=True)
    begun = now()
    for _ in loader:
        pass
    return since(begun).work


def text(data: Labelled, arguments: argparse.Namespace) -> None:
    rows, valid = data.rows("train", "plot"), data.rows("valid", "plot")
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(original_words(data.films[row].plot or ""))
    words = {word: index + 2 for index, (word, _) in enumerate(counts.most_common(WORDS))}
    vectors, _ = vectors_of(arguments.glove, list(words))
    model = OriginalTextModel(torch.from_numpy(np.concatenate([np.zeros((2, vectors.shape[1]), np.float32), vectors])),
                              len(data.genres))  # fmt: skip
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    original = Original(
        model,
        OriginalPlots(data, rows, words),
        OriginalPlots(data, valid, words),
        32,
        [{"params": trained, "lr": 1e-3}],
    )
    own = [f"plot.encoder.options.glove={arguments.glove}", f"plot.training.epochs={arguments.epochs}", *arguments.set]
    recipe = read_recipe(Path(__file__).parents[1] / "recipes" / "text-quick.yaml", own)
    compare("plot", data, recipe, original, "≥ 6")


def poster(data: Labelled, arguments: argparse.Namespace) -> None:
    rows, valid = data.rows("train", "poster"), data.rows("valid", "poster")
    size = (256, 176)
    options = {"variant": "lite0", "height": size[0], "width_px": size[1], "freeze_until": arguments.freeze}
    encoder: Any = ENCODERS["efficientnet_lite"](**options)
    model = OriginalPosterModel(encoder, len(data.genres))
    groups = [
        {"params": [p for p in encoder.parameters() if p.requires_grad], "lr": 3e-4},
        {"params": list(model.head.parameters()), "lr": 1e-3},
    ]
    original = Original(
        model, OriginalPosters(data, rows, size, True), OriginalPosters(data, valid, size, False), 16, groups
    )
    recipe = made_recipe("poster", {"kind": "efficientnet_lite", "options": options}, arguments, lr=3e-4, head_lr=1e-3)
    compare("poster", data, recipe, original, "≥ 8")


def made_recipe(name: str, encoder: dict[str, Any], arguments: argparse.Namespace, **training: Any) -> Recipe:
    settings = {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "patience": 99, **training}
    branch = {"encoder": encoder, "training": settings, "views": arguments.views}
    return Recipe.model_validate({"name": "benchmark", "precision": arguments.precision, name: branch})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds: dict[str, Callable[[Labelled, argparse.Namespace], None]] = {"text": text, "poster": poster}
    parser.add_argument("what", choices=kinds)
    parser.add_argument("data", type=Path)
    parser.add_argument("--posters", type=Path)
    parser.add_argument("--glove", type=Path)
    parser.add_argument("--films", type=int, default=0, help="films to learn from; 2,000 plots or 600 posters")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="of text: a setting of recipes/text-quick.yaml")
    parser.add_argument("--batch-size", type=int, default=64, help="ours, of posters; the original's is 16")
    parser.add_argument("--precision", default="auto", help="ours, of posters, as in a recipe; the original's is 32")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--freeze", type=int, default=5, help="stages of the poster network that are not trained")
    parser.add_argument("--threads", type=int, default=cores())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    random.seed(0)
    data = read_labelled(arguments.data, arguments.posters, None, None)
    has = "plot" if arguments.what == "text" else "poster"
    kinds[arguments.what](
        subset(data, has, arguments.films or {"text": 2000, "poster": 600}[arguments.what]), arguments
    )


if __name__ == "__main__":
    main()
