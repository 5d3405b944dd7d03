"""Clean plots, join them with their titles, and turn them into tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mmgcs.errors import BundleError, InputError
from mmgcs.film import Film
from mmgcs.preprocess.prepared import PREPROCESSORS, Prepared, whole_number

MAX_CHARACTERS = 20_000
"""The number of characters of a plot that are read, far more than any encoder uses."""

# Control characters except line ends, invisible ones that split words (zero-width, direction marks, the BOM), and
# unpaired surrogates, which tokenizers refuse.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ud800-\udfff]"
)
_SPACE = re.compile(r"\s+")


def _placeholders() -> str:
    words: dict[str, str] = {}
    patterns = []
    for line in (Path(__file__).parent / "placeholders.txt").read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"(\w+): (.+)", line):
            words[match[1]] = match[2]
        elif not line.startswith("#"):
            patterns.append(line)
    return r"(?i)^[\W_]*(?:{})?[\W_]*$".format("|".join(patterns).format(**words)).replace(" ", r"\s+")


PLACEHOLDER = _placeholders()
"""A regular expression, for Python and polars, that matches placeholders of missing plots."""
_PLACEHOLDER = re.compile(PLACEHOLDER)


def is_placeholder(text: str) -> bool:
    """Return True if a plot is a placeholder for a missing one.

    >>> is_placeholder("N/A"), is_placeholder("No overview found."), is_placeholder("A man is unknown to himself.")
    (True, True, False)
    """
    text = text.strip()
    if len(text) > 250 or _PLACEHOLDER.match(text) is None:
        return False
    return not any(unicodedata.category(mark) == "So" for mark in text)  # a plot of emoji is not one


def placeholder_warning(text: str) -> str:
    """Return the warning for a placeholder.

    >>> placeholder_warning("N/A")
    "the plot is a placeholder ('N/A')"
    """
    return f"the plot is a placeholder ({text.strip()[:60]!r})"


def clean_text(text: str) -> str:
    """Remove control and invisible characters, normalise to Unicode form NFC, and collapse spaces.

    >>> clean_text(" A\\x00 thief\\u200b\\n  returns ")
    'A thief returns'
    """
    # Remove them first: one between a letter and its accent would keep NFC from joining them.
    visible = _CONTROL.sub("", text[:MAX_CHARACTERS].replace("\x00", " "))
    return _SPACE.sub(" ", unicodedata.normalize("NFC", visible)).strip()


def film_text(plot: str, title: str | None = None) -> str:
    """Return the text that an encoder reads: the cleaned plot, after the title if there is one."""
    plot, title = clean_text(plot), clean_text(title or "")
    return f"{title}. {plot}" if title and plot else plot


class PlotTokens:
    """Turns plots into token ids with a `tokenizers` model: WordPiece, Unigram (SentencePiece) or a list of words.

    Attributes:
        max_tokens: the number of tokens, including special ones, after which a plot is cut.
        use_title: True to put the title before the plot.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, *, pad_id: int = 0, use_title: bool = True) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._pad_id = pad_id
        self.max_tokens = max_tokens
        self.use_title = use_title

    def text(self, film: Film) -> str:
        """Return the text of a film that is turned into tokens."""
        return film_text(film.plot or "", film.title if self.use_title else None)

    def prepare(self, films: Sequence[Film]) -> list[Prepared]:
        """Return the token ids (tokens,) int64 of each film's plot.

        Raises:
            InputError: a plot is empty once control characters and spaces are removed.
        """
        texts = [self.text(film) for film in films]
        for film, text in zip(films, texts, strict=True):
            if not text:
                what = f"film {film.id}: " if film.id else ""
                raise InputError(f"{what}the plot is empty; give a plot in words, or a poster")
        # A batch uses threads, which does not pay off for one text.
        encode, one = self._tokenizer.encode_batch_fast, len(texts) == 1
        encodings = [self._tokenizer.encode(texts[0])] if one else encode(texts)
        prepared = []
        for film, encoding in zip(films, encodings, strict=True):
            characters = len(film.plot or "")
            warnings: tuple[str, ...] = ()
            if characters > MAX_CHARACTERS:
                warnings = (f"the plot has {characters:,} characters; only the first {MAX_CHARACTERS:,} were read",)
            elif encoding.overflowing:
                warnings = (f"the plot is longer than the {self.max_tokens} tokens that the model reads; it was cut",)
            prepared.append(Prepared(np.asarray(encoding.ids, dtype=np.int64), len(encoding.ids), warnings))
        return prepared

    def words(self, prepared: Prepared) -> list[str]:
        """Return the tokens of a prepared plot as text, without Unigram's marks of word beginnings."""
        tokens = (self._tokenizer.id_to_token(int(token)) or "" for token in prepared.value)
        return [token.removeprefix("\u2581") for token in tokens]

    def collate(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """Return `input_ids` and `attention_mask`, both (batch, longest) int64."""
        longest = max(item.length for item in prepared)
        ids = np.full((len(prepared), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, item in enumerate(prepared):
            ids[row, : item.length] = item.value
            mask[row, : item.length] = 1
        return {"input_ids": ids, "attention_mask": mask}


@PREPROCESSORS.register("tokens")
def _tokens(options: Mapping[str, Any], read: Callable[[str], bytes]) -> PlotTokens:
    name = str(options["tokenizer"])
    content = read(name)
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises plain Exception
        raise BundleError(f"{name} is not a tokenizer ({error}); download or export the bundle again") from error
    return PlotTokens(
        tokenizer,
        whole_number(options, "max_tokens", 1, 100_000),
        pad_id=whole_number({"pad_id": 0, **options}, "pad_id", 0, 2**31 - 1),
        use_title=bool(options.get("use_title", True)),
    )
