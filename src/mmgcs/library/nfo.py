"""Read NFO files, and change their genres without changing another byte.

Kodi, Jellyfin, Emby, tinyMediaManager, MediaElch and Radarr keep a film's metadata in an XML file whose root is
`<movie>`. Many files are not quite XML (a bare `&`, `&nbsp;`, bytes of another encoding, a link before the XML), and
writing one with an XML library would change its quoting, indentation and line endings. So a scanner finds the tags and
their positions, tolerates these faults, and an edit replaces only what is between the tags. The scanner resolves only
character entities, and rejects document types. `defusedxml` checks the result of an edit.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

from defusedxml.ElementTree import fromstring

from mmgcs.errors import InputError
from mmgcs.genres import NO_GENRES
from mmgcs.preprocess import is_placeholder

MAX_BYTES = 4 * 2**20
"""The largest file that is read, more than ten times the size of the largest NFO that any tool writes."""
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow."""
SEPARATORS = re.compile(r"[/,|;]")
"""What separates several genres in one element."""

# The accepted encodings. Some of Python's other codecs, such as unicode_escape, read ASCII bytes as something else.
_CODECS = re.compile(r"utf-8|utf-16(-[lb]e)?|ascii|iso8859-\d+|cp\d+|koi8-\w|mac-\w+|tis-620|hp-roman8|ptcp154|kz1048")
_DECLARED = re.compile(rb"""[^<]*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)""")
# What may come before the XML although XML allows nothing there: a byte order mark, white space, links.
_PROLOG = re.compile(r"\ufeff?\s*+(?P<links>(?:https?://[^\s<]++\s*+)*+)")
_TOKEN = re.compile(
    r"<(?:!--.*?-->|!\[CDATA\[(.*?)\]\]>|\?.*?\?>|/([^\W\d][^\s<>/=\"'&]*+)\s*>"
    r"|([^\W\d][^\s<>/=\"'&]*+)((?:\"[^\"]*+\"|'[^']*+'|[^\"'<>])*+)(?:(?<!/)>([^<]*+)</\3\s*+>|>)"
    r"|(?=[\s\d=<&])|())",
    re.DOTALL,
)
"""What a `<` can begin: a comment, CDATA (group 1), an instruction, an end tag (name: 2), or a start tag (name: 3,
attributes: 4), with its text (5) and end tag if there is only text between them. Otherwise the `<` is text, as in
"1 < 2", or an error (6)."""
_HIDDEN = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>", re.DOTALL)
_ENTITY = re.compile(r"&(?:#\d{1,8}|#[xX][0-9a-fA-F]{1,8}|[A-Za-z][A-Za-z0-9]{1,31});")
_FAULTS = (
    re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)(?:[A-Za-z]\w{1,31};)?"),
    re.compile(r"<(?=[\s\d=<&])"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SURROGATES = re.compile("[\udc80-\udcff]+")
_IDS = {"uniqueid": "", "tmdbid": "tmdb", "imdbid": "imdb", "imdb_id": "imdb", "id": "imdb"}


class NfoError(InputError):
    """An NFO that cannot be read or safely edited. The message says why, without naming the file."""


class NotAFilmError(NfoError):
    """A valid file that does not describe a film: a series, an episode, a music video, or only a link."""


class NotXmlError(NotAFilmError):
    """A text file that is not XML, such as release notes."""


@dataclass(frozen=True, slots=True)
class Nfo:
    """What a film's NFO says.

    Attributes:
        title: `<title>`, or `<originaltitle>` if that is missing.
        year: `<year>`, or the year of `<premiered>` or `<releasedate>`.
        plot: `<plot>`, or `<outline>` if that is empty or a placeholder such as "N/A".
        genres: the genres as the file spells them, each once; "A / B" and comma lists are split.
        tags: the `<tag>` elements.
        locked: why its genres must not be changed; None if they may be.
        ids: the film's ids, by "tmdb" and "imdb".
        notes: remarks for the user: a placeholder instead of a plot, and faults that were tolerated.
    """

    title: str | None = None
    year: int | None = None
    plot: str | None = None
    genres: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    locked: str | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_nfo(content: bytes) -> Nfo:
    """Read a film's NFO from the bytes of its file.

    Raises:
        NotXmlError: the file is not XML.
        NotAFilmError: the root is not `<movie>`, or the file holds only a link.
        NfoError: the file is damaged, too large, or has a document type (rejected: it can name other files).
    """
    document = _parse(content)
    plots = document.values("plot") + document.values("outline")
    plot = next((plot for plot in plots if not is_placeholder(plot)), None)
    notes = _notes(document)
    if plots and plot is None:
        notes = [f"the plot {plots[0][:40]!r} is a placeholder", *notes]
    dates = document.values("year") + document.values("premiered") + document.values("releasedate")
    genres = [genre for text in document.values("genre") for genre in split_genres(text)]
    if not document.named("genre") and (listed := document.list_as_text()):
        genres = split_genres(listed)
    ids: dict[str, str] = {}
    for name, kind in _IDS.items():
        for element in document.named(name):
            if (key := kind or _type_of(element)) and (value := document.value(element)):
                ids.setdefault(key, value)
    return Nfo(
        title=next(iter(document.values("title") + document.values("originaltitle")), None),
        year=next((int(date[:4]) for date in dates if re.match(r"(?:1[89]|[2-9]\d)\d\d(?!\d)", date)), None),
        plot=plot,
        genres=distinct(genres),
        tags=tuple(dict.fromkeys(document.values("tag"))),
        locked=_lock(document),
        ids=ids,
        notes=tuple(notes),
    )


def split_genres(text: str) -> list[str]:
    """Return the genres in an element's text: two in "Drama / Crime" and in "Drama, Crime", none in "N/A"."""
    if text.strip().casefold() in NO_GENRES:
        return []
    return [part for piece in SEPARATORS.split(text) if (part := " ".join(piece.split()))]


def distinct(genres: Iterable[str]) -> tuple[str, ...]:
    """Return each genre once. Of genres that differ only in case, the first is kept."""
    found: dict[str, str] = {}
    for genre in genres:
        found.setdefault(genre.casefold(), genre)
    return tuple(found.values())


def with_values(content: bytes, values: Sequence[str], name: str = "genre") -> bytes:
    """Return the file with one `<genre>` for each value, and every other byte unchanged.

    Elements that already hold the right value are not touched; others get a new text and keep their attributes. Surplus
    ones are removed with the white space before them. Missing ones are added after the last one, or after the film's
    last element if there is none, with the same indentation and line ending.

    Args:
        content: the bytes of the file.
        values: the values to write, in order; at least one.
        name: the elements' name, "genre" or "tag".

    Raises:
        NfoError: the file cannot be read, an element that would change holds more than text, or the result would
            differ from the file in more than its genres.
    """
    if not values or not all(value.strip() for value in values):
        raise ValueError("there must be a genre to write, and none may be empty")
    document = _parse(content)
    text = document.text
    if name == "genre" and document.list_as_text():
        raise NfoError("its <genres> holds text, not <genre> elements; edit this file by hand")
    elements = document.named(name)
    edits: list[tuple[int, int, str]] = []
    for number, element in enumerate(elements):
        changes = number >= len(values) or document.value(element) != values[number].strip()
        if changes and not _is_plain(text[element.inner : element.close]):
            raise NfoError(f"a <{name}> holds more than text; edit this file by hand")
        if number >= len(values):
            edits.append((_before_space(text, element.start), element.end, ""))
        elif changes:
            edits.append(_filled(document, element, escape(values[number])))
    if new := [f"<{name}>{escape(value)}</{name}>" for value in values[len(elements) :]]:
        if last := elements[-1:] or document.children[-1:]:
            space = text[_before_space(text, last[0].start) : last[0].start]
            edits.append((last[0].end, last[0].end, "".join(space + element for element in new)))
        elif document.root.inner == document.root.end:
            edits.append(_filled(document, document.root, "".join(new)))
        else:
            edits.append((document.root.inner, document.root.inner, "".join(new)))
    parts, done = [], 0
    for start, end, replacement in edits:
        # If the file has bytes of another encoding, use ASCII, which is right whichever encoding a reader assumes.
        codec = "ascii" if document.mixed else document.codec
        parts += [document.encode(text[done:start]), replacement.encode(codec, "xmlcharrefreplace")]
        done = end
    result = b"".join([*parts, document.encode(text[done:])])
    _check(content, document, _parse(result), values, name)
    return result


def new_nfo(title: str, year: int | None, values: Sequence[str], name: str = "genre") -> bytes:
    """Return a minimal NFO for a film that has none. Characters that XML does not allow become U+FFFD in the title."""
    lines = ['<?xml version="1.0" encoding="UTF-8" standalone="yes"?>', "<movie>"]
    lines += ["  <title>" + escape(NOT_XML.sub("\ufffd", title)) + "</title>"]
    lines += [f"  <year>{year}</year>"] if year else []
    lines += [f"  <{name}>{escape(value)}</{name}>" for value in values]
    return "\n".join([*lines, "</movie>", ""]).encode()


class _Element(NamedTuple):
    """The element text[start:end] of a file; text[inner:close] is its content, empty for `<name/>`."""

    name: str
    start: int
    inner: int
    attributes: str
    close: int
    end: int


@dataclass(frozen=True, slots=True)
class _Document:
    """A file as text.

    Attributes:
        text: all of it; bytes that are not in the encoding are lone surrogates, so that `encode` gives them back.
        codec: its encoding.
        mixed: True if there are such bytes.
        root: the film.
        children: the elements in the root, in order; the `<genre>` elements in a `<genres>` come before it.
        by_name: the same elements, by name.
    """

    text: str
    codec: str
    mixed: bool
    root: _Element
    children: Sequence[_Element]
    by_name: Mapping[str, Sequence[_Element]]

    def named(self, name: str) -> Sequence[_Element]:
        return self.by_name.get(name, ())

    def value(self, element: _Element) -> str:
        """Return an element's text: entities resolved, nested tags left out, white space collapsed."""
        inner = self.text[element.inner : element.close]
        if "<" in inner:
            inner = _TOKEN.sub(_text_of, inner)
        if "&" in inner:
            inner = _ENTITY.sub(lambda entity: html.unescape(entity[0]), inner)
        if self.mixed:
            inner = _SURROGATES.sub(_windows_1252, inner)
        return " ".join(NOT_XML.sub(" ", inner).split())

    def values(self, name: str) -> list[str]:
        """Return the texts of all elements of a name that are not blank."""
        return [value for element in self.named(name) if (value := self.value(element))]

    def list_as_text(self) -> str:
        """Return the text of a `<genres>` that holds no elements, or ""."""
        for element in self.named("genres"):
            if _is_plain(self.text[element.inner : element.close]) and (value := self.value(element)):
                return value
        return ""

    def encode(self, text: str) -> bytes:
        return text.encode(self.codec, "surrogateescape")


def _parse(content: bytes) -> _Document:
    """Find the elements of a file."""
    if len(content) > MAX_BYTES:
        raise NfoError(f"it is larger than {MAX_BYTES // 2**20} MiB, too large for an NFO; check its content")
    text, codec, mixed = _decode(content)
    prolog = _PROLOG.match(text)
    assert prolog is not None
    if prolog.end() == len(text):
        if prolog["links"]:
            raise NotAFilmError("it holds only a link")
        raise NfoError("it is empty, not XML; have your media manager write it again")
    try:
        root, children = _scan(text, prolog.end())
    except NfoError:
        if "<movie" not in text and "<?xml" not in text:
            raise NotXmlError("it is not XML; perhaps release notes") from None
        raise
    if root.name != "movie":
        raise NotAFilmError(f"it describes <{root.name}>, not a film")
    # Kodi allows links after the XML; a second element there would be a second film.
    if re.search(r"<[A-Za-z]", _HIDDEN.sub("", text[root.end :])):
        raise NfoError("it holds more than one film; give each its own NFO")
    by_name: dict[str, list[_Element]] = {}
    for element in children:
        by_name.setdefault(element.name, []).append(element)
    return _Document(text, codec, mixed, root, children, by_name)


def _decode(content: bytes) -> tuple[str, str, bool]:
    """Return a file's text, its encoding, and whether there are bytes that are not in that encoding."""
    if content.startswith((codecs.BOM_UTF16_LE, b"<\0")):
        codec = "utf-16-le"
    elif content.startswith((codecs.BOM_UTF16_BE, b"\0<")):
        codec = "utf-16-be"
    else:
        match = _DECLARED.match(content[:4096])
        declared = match[1].decode() if match else "utf-8"
        try:
            codec = codecs.lookup(declared).name
        except LookupError:
            codec = ""
        if not _CODECS.fullmatch(codec):
            raise NfoError(f"its encoding {declared!r} cannot be read; save it as UTF-8")
        if codec.startswith("utf-16"):  # .NET's StringWriter declares UTF-16 even if the file is saved as UTF-8
            codec = "utf-8"
    try:
        return content.decode(codec), codec, False
    except UnicodeError as error:
        if codec.startswith("utf-16"):
            raise NfoError(f"its encoding cannot be read ({error}); save it as UTF-8") from error
        return content.decode(codec, "surrogateescape"), codec, True


def _scan(text: str, position: int) -> tuple[_Element, list[_Element]]:
    """Return the root, which begins at `position`, and the children of `_Document`."""
    children: list[_Element] = []
    parents: list[tuple[str, int, int, str]] = []
    for token in _TOKEN.finditer(text, position):
        if not parents and text[position : token.start()].strip():
            break
        position = token.end()
        closed, name, attributes, leaf, broken = token.group(2, 3, 4, 5, 6)
        if name is not None:
            opened = (_local(name), token.start(), token.end(4) + 1, attributes)
            if leaf is None and not attributes.endswith("/"):
                parents.append(opened)
                continue
            element = _Element(*opened, position if leaf is None else token.end(5), position)
        elif closed is not None:
            if not parents or parents[-1][0] != _local(closed):
                expected = f"does not close <{parents[-1][0]}>" if parents else "closes nothing"
                raise _not_xml(text, token.start(), f"</{closed}> {expected}")
            element = _Element(*parents.pop(), token.start(), position)
        elif broken is not None:
            if text.startswith("<!", token.start()) and text[position + 1 : position + 2].isalpha():
                raise NfoError("it has a document type or XML entities, which are rejected; remove the <!DOCTYPE …>")
            raise _not_xml(text, token.start(), "a < does not start a tag")
        else:
            continue
        if not parents:
            return element, children
        if len(parents) == 1 or (len(parents) == 2 and element.name == "genre" and parents[1][0] == "genres"):
            children.append(element)
    if parents:
        raise _not_xml(text, parents[-1][1], f"<{parents[-1][0]}> is not closed")
    raise _not_xml(text, position, "there is text before the first element")


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _not_xml(text: str, position: int, what: str) -> NfoError:
    where = f"{what} in line {_line(text, position)}"
    return NfoError(f"it is not XML: {where}; fix that line, or have your media manager write the file again")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _notes(document: _Document) -> list[str]:
    """Return a file's faults, and how each was read."""
    text, start = document.text, document.root.start
    notes = ["the link before the XML was ignored"] if "http" in text[:10] else []
    if document.mixed:
        notes.append(f"bytes that are not {document.codec.upper()} were read as Windows-1252")
    if _CONTROL.search(text, start):
        notes.append("control characters were ignored")
    if any(fault.search(text, start) for fault in _FAULTS):
        shown = _HIDDEN.sub(lambda hidden: "\n" * hidden[0].count("\n"), text)
        faults = sorted((found.start(), found[0]) for fault in _FAULTS for found in islice(fault.finditer(shown), 10))
        notes += [f"{what} in line {_line(shown, at)} is not valid XML and was read as intended" for at, what in faults]
    return notes


def _text_of(token: re.Match[str]) -> str:
    if token[2] or token[3]:
        return f" {token[5] or ''} "
    return escape(token[1] or "") if token[0] != "<" else "&lt;"


def _windows_1252(odd: re.Match[str]) -> str:
    return odd[0].encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _type_of(element: _Element) -> str:
    match = re.search(r"""\btype\s*=\s*["'](\w+)""", element.attributes)
    return match[1].casefold() if match else ""


def _lock(document: _Document) -> str | None:
    # If there are several such elements, any of them locks the genres.
    if {value.casefold() for value in document.values("lockdata")} & {"true", "1", "yes"}:
        return "<lockdata> locks its genres"
    fields = {word.strip().casefold() for value in document.values("lockedfields") for word in re.split(r"[|,]", value)}
    return "<lockedfields> locks its genres" if fields & {"genres", "genre"} else None


def _is_plain(inner: str) -> bool:
    """Return True if an element holds only text or CDATA: no elements, comments or instructions."""
    return all(token[1] is not None or token[0] == "<" for token in _TOKEN.finditer(inner))


def _before_space(text: str, position: int) -> int:
    """Return the start of the white space that ends at `position`."""
    while text[position - 1] in " \t\r\n":
        position -= 1
    return position


def _filled(document: _Document, element: _Element, inner: str) -> tuple[int, int, str]:
    """Return the edit that replaces an element's content."""
    if element.inner < element.end:
        return element.inner, element.close, inner
    tag = document.text[element.start : element.end]
    name = re.split(r"[\s/>]", tag[1:], maxsplit=1)[0]
    return element.start + len(tag[:-2].rstrip()), element.end, f">{inner}</{name}>"


def _check(content: bytes, old: _Document, new: _Document, values: Sequence[str], name: str) -> None:
    """Raise NfoError unless `new` has the values and otherwise equals `old`."""
    same = (
        old.encode(old.text) == content
        and [new.value(element) for element in new.named(name)] == [" ".join(value.split()) for value in values]
        and _others(old, name) == _others(new, name)
    )
    tree = _tree(old, name)
    if not same or (tree is not None and tree != _tree(new, name)):
        raise NfoError("its genres cannot be changed without changing anything else; edit this file by hand")


def _others(document: _Document, name: str) -> tuple[Any, ...]:
    """Return the text of everything but the elements of a name."""
    text, root = document.text, document.root
    others = (element for element in document.children if element.name not in (name, "genres"))
    return text[: root.start], text[root.end :], [text[element.start : element.end] for element in others]


def _tree(document: _Document, name: str) -> list[Any] | None:
    """Return what an XML parser finds in the root, without the elements of a name; None if it is not valid XML."""
    try:
        root = fromstring(document.text[document.root.start : document.root.end], forbid_dtd=True)
    except (ParseError, ValueError):
        return None
    return [
        (element.tag, element.attrib, (element.text or "").split(), (element.tail or "").split())
        for element in root.iter()
        if element.tag.rpartition("}")[2] != name
    ]
