"""Zero-shot: how similar the plot is to "This film is a … film.", by all-MiniLM-L6-v2. Nothing is learned from train.

python benchmarks/peers/zero_shot.py --data FILMS
"""

from __future__ import annotations

import numpy as np
import torch
from common import Stopwatch, arguments, plots, read, report
from transformers import AutoModel, AutoTokenizer

from mmgcs.genres import DEFAULT_GENRES
from mmgcs.models.transformer import resolve_source

SCALE = 20.0  # similarities lie close together; the decision's own slope does the rest


def main() -> None:
    films = {split: plots(found) for split, found in read(arguments("zero-shot").parse_args()).items()}
    watch = Stopwatch()
    source = resolve_source("all-MiniLM-L6-v2")
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).eval()

    @torch.no_grad()
    def embed(texts: list[str]) -> np.ndarray:
        found = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            batch = tokenizer(
                [texts[i] for i in part], padding=True, truncation=True, max_length=128, return_tensors="pt"
            )
            hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            found[part] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return found

    genres = embed([f"This film is a {genre.lower()} film." for genre in DEFAULT_GENRES])
    scored = {
        split: SCALE * embed([film.plot or "" for film in films[split]]) @ genres.T for split in ("valid", "test")
    }
    report("zero-shot, all-MiniLM-L6-v2", (scored["valid"], films["valid"]), (scored["test"], films["test"]), watch)


if __name__ == "__main__":
    main()
