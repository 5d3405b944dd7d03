"""Cut the vocabulary of a multilingual encoder to the pieces that plots in Latin-script languages use.

    python tools/cut_vocabulary.py SOURCE OUT --texts films.csv films_languages.csv

Of multilingual-e5-small's 118 million parameters 96 million are the embeddings of 250,000 pieces, for a hundred
languages. The recipe `default` trains a copy with a quarter of them. SOURCE is a Hugging Face encoder with a Unigram
tokenizer (the XLM-R family): a folder, or a hub name such as intfloat/multilingual-e5-small. Kept are the special
tokens, the pieces that occur at least --at-least times in the titles and plots of split "train" and in wordfreq's lists
of common words, and every single character that occurs. Texts of such pieces give the same hidden states as before.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel

from mmgcs.models.transformer import load_tokenizer
from mmgcs.tables import read_films

WORDS = {
    "en": 12_000,
    "es": 12_000,
    "fr": 12_000,
    "pt": 12_000,
    "de": 20_000,
    "it": 15_000,
    "nl": 15_000,
    "sv": 8_000,
    "ca": 6_000,
    "da": 6_000,
    "nb": 6_000,
    "pl": 6_000,
    "ro": 6_000,
    "tr": 6_000,
    "cs": 4_000,
    "fi": 4_000,
    "hu": 4_000,
    "id": 4_000,
}
"""How many of the most common words of a language are counted, beside the plots."""
BY_TRANSFER = ("de", "it", "nl")
"""Languages with few plots, whose words count as often as a piece must occur."""


def film_texts(tables: Iterable[Path]) -> Iterator[str]:
    """Yield title and plot of the films of split "train"."""
    for table in tables:
        for chunk in read_films(table):
            yield from (f"{film.title or ''}. {film.plot or ''}" for film in chunk if film.split == "train")


def common_words(at_least: int) -> Iterator[str]:
    """Yield the common words of `WORDS`, with and without a capital, `at_least` times or once less."""
    from wordfreq import top_n_list

    for language, count in WORDS.items():
        for word in filter(str.isalpha, top_n_list(language, count)):
            for form in (word, word.capitalize()):
                yield from [form] * (at_least if language in BY_TRANSFER else at_least - 1)


def used_pieces(tokenizer: Tokenizer, texts: Iterable[str], at_least: int) -> list[int]:
    """Return the ids of the pieces to keep, in order."""
    counts: Counter[int] = Counter()
    texts = iter(texts)
    while some := list(islice(texts, 5000)):
        for encoding in tokenizer.encode_batch_fast(some):
            counts.update(encoding.ids)
    special = set(tokenizer.get_added_tokens_decoder())
    pieces = {index: piece for piece, index in tokenizer.get_vocab().items()}
    single = {index for index in counts if len(pieces[index].replace("\u2581", "")) <= 1}
    return sorted(special | single | {index for index, count in counts.items() if count >= at_least})


def cut_tokenizer(tokenizer: Tokenizer, keep: list[int]) -> Tokenizer:
    """Return the tokenizer with the pieces `keep` alone, numbered from 0."""
    new = {old: index for index, old in enumerate(keep)}
    value = json.loads(tokenizer.to_str())
    model = value["model"]
    if model["type"] != "Unigram":
        raise SystemExit(f"the tokenizer is of type {model['type']}; only Unigram tokenizers can be cut")
    # Added tokens may stand after the model's own pieces.
    added = {token["id"]: [token["content"], 0.0] for token in value["added_tokens"]}
    model["vocab"] = [model["vocab"][old] if old < len(model["vocab"]) else added[old] for old in keep]
    model["unk_id"] = new[model["unk_id"]]
    for token in value["added_tokens"]:
        token["id"] = new[token["id"]]
    for token in ((value["post_processor"] or {}).get("special_tokens") or {}).values():
        token["ids"] = [new[old] for old in token["ids"]]
    return Tokenizer.from_str(json.dumps(value))


def cut(source: str, out: Path, texts: Iterable[str], at_least: int) -> tuple[int, int]:
    """Write the cut encoder and its tokenizer into the folder `out`. Return how many pieces there were and are."""
    tokenizer = load_tokenizer(source)
    keep = used_pieces(tokenizer, texts, at_least)
    small = cut_tokenizer(tokenizer, keep)
    model = AutoModel.from_pretrained(source)
    table = model.get_input_embeddings().weight.detach()  # (pieces, width)
    new = {old: index for index, old in enumerate(keep)}
    config = model.config
    model.set_input_embeddings(nn.Embedding.from_pretrained(table[torch.tensor(keep)].clone(), freeze=False))
    config.vocab_size = len(keep)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(config, name, new.get(getattr(config, name, None)))
    model.save_pretrained(out)
    small.save(str(out / "tokenizer.json"))
    return len(table), len(keep)


def main() -> None:
    """Cut an encoder as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder or hub name of an encoder")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="tables of films")
    parser.add_argument("--at-least", type=int, default=3, help="times that a piece must occur (default: 3)")
    given = parser.parse_args()

    def texts() -> Iterator[str]:
        yield from film_texts(given.texts)
        yield from common_words(given.at_least)

    before, after = cut(given.source, given.out, texts(), given.at_least)
    print(f"Kept {after:,} of {before:,} pieces; wrote {given.out}")


if __name__ == "__main__":
    main()
