"""Plots: cleaned, joined with the title where there is one, and cut into tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mmgcs.errors import BundleError, InputError
from mmgcs.film import Film
from mmgcs.preprocess.base import PREPROCESSORS, Prepared, pad_stack, whole_number

MAX_CHARACTERS = 20_000
"""Characters of a plot that are looked at at all: far more than any encoder reads, little enough to be instant."""

NOT_ENGLISH = "the plot does not read like English, which is what the model was trained on; expect errors"
"""The warning of a plot in another language."""

# Control characters but those that end a word or a line, the invisible ones that break words apart (zero-width,
# direction marks, the BOM), and halves of surrogate pairs, which no tokenizer takes.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ud800-\udfff]"
)
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

# The commonest function words of English. Of 31,000 English plots 99.9% have at least one such word in eight;
# a language detector would cost more than the prediction and is less sure on so few words.
_ENGLISH = frozenset(
    "a about after all an and are as at be before but by during each for from has have he her him his how if in "
    "into is it its more not of off on one or other out she so than that the their them they this through to two up "
    "was when where which while who whose will with without you your".split()
)


# What catalogues and databases write if they have no plot, in several languages; spaces stand for any white space.
_NO_PLOT = (
    r"n[\W_]*a|n|nan|none|null|nil|tb[acd]|unknown|undefined|undetermined|unavailable|missing|empty|coming soon",
    r"not (?:yet )?available(?: yet)?|to be (?:announced|determined|confirmed|added)",
    r"(?:there is |sorry )?no {noun}s?(?: (?:is|was|has been))?(?: (?:currently|yet))?(?: {given})?(?: {so_far})?",
    r"(?:the )?{noun} (?:is |are |has been )*(?:currently |still )?(?:{unknown}|not (?:yet )?{given})(?: {so_far})?",
    r"(?:be the first to )?(?:add|contribute|write|submit) (?:an? |the |your )?{noun}\b.{{0,60}}",
    r"(?:it looks like )?we (?:do not|don['’]t) (?:yet |currently )?have (?:an?|any|the) {noun}\b.{{0,160}}",
    # German
    r"(?:wir haben |es gibt |es ist )?(?:noch |leider )*keine? {german}(?: (?:verfügbar|vorhanden|gefunden|bekannt))?",
    r"(?:wir haben |es gibt |es ist )?(?:noch |leider )*keine? {german} (?:übersetzt|auf|in) .{{0,140}}",
    r"{german} (?:nicht verfügbar|fehlt|folgt|unbekannt)|nicht verfügbar|unbekannt|k[\W_]*a|demnächst",
    # French
    r"(?:nous n['’]avons )?(?:aucune?|pas de) {french}s?(?: (?:disponible|trouvée?|(?:traduite?|en) .{{0,140}}))?",
    r"(?:{french} )?(?:non disponible|indisponible|inconnue?|à venir)",
    # Spanish and Portuguese
    r"(?:sin|no hay|no tenemos)(?: una| ninguna)? {spanish}(?: (?:disponible|(?:traducida|en) .{{0,140}}))?",
    r"(?:{spanish} )?(?:no disponible|desconocid[oa])|próximamente",
    r"(?:sem|(?:ainda )?não (?:há|temos))(?: uma)? {portuguese}(?: (?:disponível|(?:traduzida|em) .{{0,140}}))?",
    r"(?:{portuguese} )?(?:não disponível|indisponível|desconhecid[oa])|em breve",
    # Italian, Dutch, Polish, Scandinavian languages, Turkish
    r"(?:nessuna|non abbiamo (?:una|nessuna)) {italian}(?: (?:disponibile|(?:tradotta|in) .{{0,140}}))?",
    r"(?:{italian} )?(?:non disponibile|sconosciut[oa])",
    r"geen (?:beschrijving|samenvatting|plot|omschrijving|overzicht)(?: beschikbaar)?|onbekend",
    r"brak(?: (?:opisu|fabuły|danych|informacji))?|ingen (?:beskrivning|beskrivelse|handling)|okänd|ukendt|ukjent",
    r"(?:özet|açıklama) (?:yok|bulunmuyor)|bilinmiyor",
    # Russian, Chinese, Japanese, Korean
    r"нет (?:описания|данных)|описание отсутствует|неизвестно|[暂暫][无無](?:简介|簡介|介绍|介紹|剧情简介)?|未知",
    r"(?:あらすじ)?は?(?:なし|ありません|不明)|(?:줄거리 )?없음",
)
_WORDS = {
    "noun": r"(?:plot|overview|description|synopsis|summary|storyline|information)"
    r"(?: (?:summary|summaries|outline|details))?",
    "given": r"(?:found|available|known|provided|entered|added|written|given|translated|released|disclosed|listed)",
    "so_far": r"(?:yet|at this time|for this (?:film|movie|title))",
    "unknown": r"(?:unknown|unavailable|(?:being )?(?:kept )?under wraps|tb[acd]|n[\W_]*a|coming soon|missing"
    r"|undisclosed|none|pending|to be (?:announced|determined|confirmed|added))",
    "german": r"(?:beschreibung|inhaltsangabe|handlung|zusammenfassung|übersicht|inhalt|angaben?|informationen)",
    "french": r"(?:résumé|synopsis|description|intrigue|information)",
    "spanish": r"(?:sinopsis|descripción|resumen|argumento|información)",
    "portuguese": r"(?:sinopse|descrição|resumo|enredo|informaç(?:ão|ões))",
    "italian": r"(?:trama|descrizione|sinossi)",
}
PLACEHOLDER = r"(?i)^[\W_]*(?:{})?[\W_]*$".format("|".join(_NO_PLOT).format(**_WORDS)).replace(" ", r"\s+")
"""A regular expression, of Python and of polars, that matches a text that stands for a missing plot."""
_PLACEHOLDER = re.compile(PLACEHOLDER)
_LONGEST_PLACEHOLDER = 250


def is_placeholder(text: str) -> bool:
    """Return True if a plot only says that there is none.

    >>> is_placeholder("N/A"), is_placeholder("No overview found."), is_placeholder("A man is unknown to himself.")
    (True, True, False)
    """
    text = text.strip()
    if len(text) > _LONGEST_PLACEHOLDER or _PLACEHOLDER.match(text) is None:
        return False
    return not any(unicodedata.category(mark) == "So" for mark in text)  # emoji may tell a plot


def placeholder_warning(text: str) -> str:
    """Return the warning about a placeholder.

    >>> placeholder_warning("N/A")
    "the plot is a placeholder ('N/A')"
    """
    return f"the plot is a placeholder ({text.strip()[:60]!r})"


def clean_text(text: str) -> str:
    """Text without control and invisible characters, in Unicode form NFC, with single spaces; "" for a blank text.

    >>> clean_text(" A\\x00 thief\\u200b\\n  returns ")
    'A thief returns'
    """
    # Removed first: an invisible character between a letter and its accent would keep them apart.
    visible = _CONTROL.sub("", text[:MAX_CHARACTERS].replace("\x00", " "))
    return _SPACE.sub(" ", unicodedata.normalize("NFC", visible)).strip()


def film_text(plot: str, title: str | None = None) -> str:
    """What an encoder reads: the title, where given, as a sentence before the plot. Both are cleaned."""
    plot = clean_text(plot)
    title = clean_text(title) if title else ""
    return f"{title}. {plot}" if title and plot else plot


def plot_warnings(plot: str) -> tuple[str, ...]:
    """What is odd about a plot: it is very long, or does not read like English."""
    warnings = []
    if len(plot) > MAX_CHARACTERS:
        warnings.append(f"the plot has {len(plot):,} characters; only the first {MAX_CHARACTERS:,} were looked at")
    if not looks_english(plot):
        warnings.append(NOT_ENGLISH)
    return tuple(warnings)


def looks_english(text: str) -> bool:
    """Whether a text has the function words of English. Texts under eight words are given the benefit of the doubt."""
    words = _WORD.findall(text[:2000].lower())
    if len(words) < 8:
        letters = [letter for letter in text[:2000] if letter.isalpha()]
        # Scripts without spaces give few "words"; Latin letters end at U+024F.
        return not letters or sum(letter <= "\u024f" for letter in letters) >= len(letters) / 2
    return sum(word in _ENGLISH for word in words) >= len(words) / 8


class PlotTokens:
    """Plots as token ids for a `tokenizers` model: WordPiece of a transformer or a word-level vocabulary.

    Attributes:
        max_tokens: tokens, special ones included, after which a plot is cut.
        use_title: whether the title is put before the plot.
    """

    views: tuple[str, ...] = ("features", "english")

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, *, pad_id: int = 0, use_title: bool = True) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._pad_id = pad_id
        self.max_tokens = max_tokens
        self.use_title = use_title

    def text(self, film: Film) -> str:
        """What is read of a film, before it is cut into tokens."""
        return film_text(film.plot or "", film.title if self.use_title else None)

    def prepare(self, films: Sequence[Film]) -> list[Prepared]:
        """Token ids (tokens,) int64 of each film's plot.

        Raises:
            InputError: a plot is empty once control characters and spaces are removed.
        """
        texts = [self.text(film) for film in films]
        for film, text in zip(films, texts, strict=True):
            if not text:
                what = f"film {film.id}: " if film.id else ""
                raise InputError(f"{what}the plot is empty; give a plot in words, or a poster")
        # A batch costs thread hand-over that one text does not repay.
        encodings = (
            [self._tokenizer.encode(texts[0])]
            if len(texts) == 1
            else self._tokenizer.encode_batch_fast(texts)
            if texts
            else []
        )
        prepared = []
        for film, encoding in zip(films, encodings, strict=True):
            ids = np.asarray(encoding.ids, dtype=np.int64)
            warnings = plot_warnings(film.plot or "")
            if len(film.plot or "") <= MAX_CHARACTERS and encoding.overflowing:
                warnings += (f"the plot is longer than the {self.max_tokens} tokens that the model reads; it was cut",)
            prepared.append(Prepared(ids, len(ids), warnings))
        return prepared

    def words(self, prepared: Prepared) -> list[str]:
        """The tokens of a prepared plot, as text."""
        return [self._tokenizer.id_to_token(int(token)) or "" for token in prepared.value]

    def collate(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """`input_ids` and `attention_mask`, both (batch, longest) int64."""
        ids, mask = pad_stack([item.value for item in prepared], self._pad_id)
        return {"input_ids": ids, "attention_mask": mask}


@PREPROCESSORS.register("tokens")
def _tokens(options: Mapping[str, Any], read: Callable[[str], bytes]) -> PlotTokens:
    name = str(options["tokenizer"])
    try:
        tokenizer = Tokenizer.from_buffer(read(name))
    except Exception as error:  # tokenizers raises plain Exception
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{name} is not a tokenizer ({error}); get the bundle again") from error
    return PlotTokens(
        tokenizer,
        whole_number(options, "max_tokens", 1, 100_000),
        pad_id=int(options.get("pad_id", 0)),
        use_title=bool(options.get("use_title", True)),
    )
