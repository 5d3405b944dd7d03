"""Identify the language of a plot, with py3langid (Lui & Baldwin 2012, "langid.py").

On the 2,630 plots of `valid` in English, Portuguese, Spanish, French, Korean and Turkish it was right about all but
three, which were not in the language of their label. It takes half a millisecond per plot, and half a second to load.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from functools import cache
from typing import Any

ENGLISH = "en"
# The languages that catalogues of films are written in. With fewer to choose from, short plots are identified better.
_NAMES = (
    "ar:Arabic bg:Bulgarian bn:Bengali ca:Catalan cs:Czech da:Danish de:German el:Greek en:English es:Spanish "
    "et:Estonian fa:Persian fi:Finnish fr:French he:Hebrew hi:Hindi hr:Croatian hu:Hungarian id:Indonesian "
    "is:Icelandic it:Italian ja:Japanese ka:Georgian ko:Korean lt:Lithuanian lv:Latvian nl:Dutch no:Norwegian "
    "pl:Polish pt:Portuguese ro:Romanian ru:Russian sk:Slovak sl:Slovenian sr:Serbian sv:Swedish ta:Tamil "
    "te:Telugu th:Thai tr:Turkish uk:Ukrainian vi:Vietnamese zh:Chinese "
)
LANGUAGES = dict(pair.split(":") for pair in _NAMES.split())
"""Code (ISO 639-1) and English name of the languages that can be identified."""

LEAST_WORDS = 8
"""A text of fewer words in Latin letters is too short to tell its language."""
SHORTEST = 5
"""A plot of fewer words is odd: only three of the plots that the default model learned from are so short."""
LEAST_PROBABILITY = 0.9
"""A language in Latin letters that is less probable is not named."""
UNLEARNED = "a language the model has not learned"
"""What warnings and reasons call the language of a plot that a model does not read."""
UNCLEAR = "und"
"""ISO 639-2's code for an undetermined language: that of nearly all programs and logs, and of three of 11,700 plots."""
UNCLEAR_WORDS, UNCLEAR_PROBABILITY = 12, 0.6
"""A text with at least this many words is in no language if its most likely one has a lower probability than this."""
LONGEST = 1000
"""Only this many characters of a text are read."""

# Words that only English uses. If at least every eighth word of a text is one of these, it is English. That is true of
# 85% of English plots and of none of 32,640 others, and saves loading the identifier, which takes as long as a whole
# prediction.
_ENGLISH_WORDS = frozenset("the and his her with who from their they she when into that this are its by to".split())

_WORD = re.compile(r"[^\W\d_]+")
_LOADING = threading.Lock()


def identify_language(text: str) -> str | None:
    """Return the language of a text, as a code in `LANGUAGES`; None if it is too short, `UNCLEAR` if it is in none.

    >>> identify_language("Zwei Ermittler jagen einen Mörder durch die Stadt und geraten unter Verdacht.")
    'de'
    """
    text = text[:LONGEST]
    found = _WORD.findall(text.lower())
    words = len(found)
    if not words or (words < LEAST_WORDS and _is_latin(text)):
        return None
    if sum(word in _ENGLISH_WORDS for word in found) >= max(3, words / 8):
        return ENGLISH
    with _LOADING:  # once, whatever the number of threads
        identifier = _identifier()
    code, probability = identifier.classify(text)
    if probability >= LEAST_PROBABILITY or not _is_latin(text):
        return str(code)
    return UNCLEAR if words >= UNCLEAR_WORDS and probability < UNCLEAR_PROBABILITY else None


def odd_plot(plot: str, learned: Collection[str]) -> str | None:
    """Return the warning about a plot that is too short, or in a language that a model has not learned; None otherwise.

    >>> odd_plot("A vampire.", {"en"})
    'the plot has fewer than 5 words; expect errors'
    """
    plot = plot[:LONGEST]
    if len(_WORD.findall(plot)) < SHORTEST and _is_latin(plot):
        return f"the plot has fewer than {SHORTEST} words; expect errors"
    code = identify_language(plot)
    if code is None or code in learned:
        return None
    if code == UNCLEAR:
        return "the plot does not read like sentences in any known language; expect errors"
    return f"the plot seems to be in {LANGUAGES[code]}, {UNLEARNED}; expect errors"


def _is_latin(text: str) -> bool:
    """Return True if at least half of the letters are Latin. Some other scripts have no spaces, so few "words"."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter <= "\u024f" for letter in letters) >= len(letters) / 2


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # not needed to predict from a poster

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LANGUAGES))
    return identifier
