"""TF-IDF of words and pairs of words, and logistic regression.

python benchmarks/peers/tfidf.py --data FILMS
"""

from __future__ import annotations

from common import Stopwatch, arguments, plots, read, report

from mmgcs.evaluation import TfidfBaseline
from mmgcs.genres import DEFAULT_GENRES
from mmgcs.labels import read_labels


def main() -> None:
    films = {split: plots(found) for split, found in read(arguments("TF-IDF + LR").parse_args()).items()}
    watch = Stopwatch()
    model = TfidfBaseline(use_title=False).fit(films["train"], *read_labels(films["train"], DEFAULT_GENRES))
    valid, test = ((model.logits(films[split]), films[split]) for split in ("valid", "test"))
    report("TF-IDF + logistic regression", valid, test, watch)


if __name__ == "__main__":
    main()
