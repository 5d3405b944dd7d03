"""NFO files: read with defusedxml, edited by splicing bytes, so that nothing but the genres changes.

Kodi, Jellyfin, Emby, Plex agents, tinyMediaManager, MediaElch and Radarr keep a film's metadata in an XML file whose
root is `<movie>`. Serialising such a file anew would change its quoting, its order of attributes, its indentation or
its line endings, so `with_genres` finds where the `<genre>` elements lie (expat tells the byte offsets), replaces
those bytes, and reads the result again to prove that everything else is as it was.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import XMLParserType
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from mmgcs.errors import InputError

MAX_BYTES = 16 * 2**20
"""The largest file that is read: a hundred times the largest NFO that any tool writes."""

WRONG_ENCODING = 19  # expat's XML_ERROR_INCORRECT_ENCODING
SEPARATORS = re.compile(r"[/,|;]")
START_TAG = re.compile(r"""<([^\s/>]+)(?:"[^"]*"|'[^']*'|[^"'>])*>""")
_READ = frozenset("genre title originaltitle year premiered releasedate plot outline lockdata lockedfields".split())


class NfoError(InputError):
    """An NFO that cannot be read or safely edited. The message says why, without naming the file."""


class NotAFilmError(NfoError):
    """A sound file that is not a film's: a series, an episode, a music video, or only a link."""


@dataclass(frozen=True, slots=True)
class Nfo:
    """What a film's NFO says.

    Attributes:
        title: `<title>`, or `<originaltitle>` without one.
        year: `<year>`, or the year of `<premiered>` or `<releasedate>`.
        plot: `<plot>`, or `<outline>` where that is empty.
        genres: the genres as the file spells them, "A / B" and comma lists taken apart, each once.
        locked: why the file asks that its genres be left alone ("lockdata" or "lockedfields"); None where it does not.
    """

    title: str | None
    year: int | None
    plot: str | None
    genres: tuple[str, ...]
    locked: str | None


@dataclass(frozen=True, slots=True)
class _Element:
    """A direct child of the root: its bytes are content[start:end], its inner bytes end at `close`."""

    text: str
    start: int
    close: int
    plain: bool  # holds text only: no element, comment or processing instruction


class _Target:
    """What the parser calls: notes where the root's children begin and end, and the text of those that matter."""

    def __init__(self, *, events: bool = False) -> None:
        self._depth = 0
        self._text: list[str] = []
        self._start = 0
        self._name = ""
        self._plain = True
        self.root: str | None = None
        self.root_start = 0
        self.root_close: int | None = None
        self.genres: list[_Element] = []
        self.fields: dict[str, str] = {}
        self.last_child: tuple[int, int] | None = None
        self.declared: str | None = None
        self.events: list[tuple[str, Any]] | None = [] if events else None

    def attach(self, parser: XMLParserType) -> None:
        """Listen to expat itself: the byte offsets are there, and a scan of a library is twice as fast."""
        self._parser = parser
        parser.XmlDeclHandler = self._declaration
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        parser.CommentHandler = self._on_comment
        parser.ProcessingInstructionHandler = self._on_instruction
        if self.events is not None:
            parser.CharacterDataHandler = self._on_text

    def close(self) -> None: ...

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        self.declared = encoding

    def _on_start(self, tag: str, attributes: list[str]) -> None:
        depth = self._depth = self._depth + 1
        if depth == 2:
            self._start = self._parser.CurrentByteIndex
            self._plain = True
            self._name = _local(tag) if tag[0] == "{" else tag
            if self._name in _READ:
                self._text = []
                self._parser.CharacterDataHandler = self._on_text
        elif depth == 1:
            self.root = _local(tag)
            self.root_start = self._parser.CurrentByteIndex
        else:
            self._plain = False
        if self.events is not None:
            self.events.append(("start", (tag, attributes)))

    def _on_text(self, text: str) -> None:
        if self._depth == 2:
            self._text.append(text)
        if self.events is not None and (self._depth > 1 or text.strip()):
            self.events.append(("text", text.strip() if self._depth == 1 else text))

    def _on_end(self, tag: str) -> None:
        if self.events is not None:
            self.events.append(("end", tag))
        depth = self._depth
        self._depth = depth - 1
        if depth == 2:
            close = self._parser.CurrentByteIndex
            self.last_child = (self._start, close)
            if self._name in _READ:
                self._end_of_read(self._name, close)
        elif depth == 1:
            self.root_close = self._parser.CurrentByteIndex

    def _end_of_read(self, name: str, close: int) -> None:
        text = "".join(self._text)
        if self.events is None:
            self._parser.CharacterDataHandler = None
        if name == "genre":
            self.genres.append(_Element(text, self._start, close, self._plain))
            # What remains are the events that an edit must leave as they are.
            while self.events and not _is_genre(self.events.pop()):
                pass
        elif text.strip():
            self.fields.setdefault(name, " ".join(text.split()))

    def _on_comment(self, text: str) -> None:
        self._plain = False
        if self.events is not None:
            self.events.append(("comment", text))

    def _on_instruction(self, target: str, data: str) -> None:
        self._plain = False
        if self.events is not None:
            self.events.append(("instruction", (target, data)))


@dataclass(frozen=True, slots=True)
class _Document:
    """A parsed file: what was found, and the codec that its bytes are in."""

    target: _Target
    root_close: int
    codec: str

    def end_of(self, content: bytes, start: int, close: int) -> int:
        """Where the element ends that begins at `start` and whose end event came at `close`."""
        shown = content[start:close].decode(self.codec)
        tag = START_TAG.match(shown)
        if tag is not None and tag.end() == len(shown) and shown.endswith("/>"):
            return close  # an empty element: expat reports the byte after it
        bracket = self.encode(">")
        index = content.index(bracket, close)
        while (index - close) % len(bracket):  # the halves of two characters of a two-byte encoding
            index = content.index(bracket, index + 1)
        return index + len(bracket)

    def encode(self, text: str) -> bytes:
        return text.encode(self.codec, errors="xmlcharrefreplace")


def read_nfo(content: bytes) -> Nfo:
    """Read a film's NFO from the bytes of its file.

    Raises:
        NotAFilmError: the root is not `<movie>`, or the file holds only a link.
        NfoError: the file is not XML, or has a document type or entities (refused: they can read other files).
    """
    target = _parse(content[_lead(content) :]).target
    fields = target.fields
    return Nfo(
        title=fields.get("title") or fields.get("originaltitle") or None,
        year=next((year for key in ("year", "premiered", "releasedate") if (year := _year(fields.get(key, "")))), None),
        plot=fields.get("plot") or fields.get("outline") or None,
        genres=_genres_of(target),
        locked=_lock(fields),
    )


def split_genres(text: str) -> list[str]:
    """The genres in the text of one element: "Drama / Crime" and "Drama, Crime" are two. "N/A" is none."""
    if text.strip().casefold() == "n/a":
        return []
    return [part for piece in SEPARATORS.split(text) if (part := " ".join(piece.split()))]


def with_genres(content: bytes, genres: Sequence[str]) -> bytes:
    """The file with one `<genre>` for each of `genres` and everything else byte for byte as it was.

    Elements that already hold the right genre are not touched; others are overwritten in place with their attributes
    kept, surplus ones go with the white space before them, and missing ones follow the last, or where there is none
    the last element of the film, indented like it and with the same line ending.

    Args:
        content: the bytes of the file.
        genres: the genres to write, in order; at least one.

    Raises:
        NfoError: the file cannot be read, a `<genre>` that would change holds more than text, or the result would
            differ from the file in more than its genres.
    """
    if not genres or not all(genre.strip() for genre in genres):
        raise ValueError("there must be a genre to write, and none may be empty")
    if lead := _lead(content):
        return content[:lead] + with_genres(content[lead:], genres)
    document = _parse(content)
    elements = document.target.genres
    edits: list[tuple[int, int, bytes]] = []
    for element, genre in zip(elements, genres, strict=False):
        if element.text.strip() != genre:
            end = document.end_of(content, element.start, element.close)
            edits.append((element.start, end, _overwritten(content, document, element, end, genre)))
    for element in elements[len(genres) :]:
        if not element.plain:
            raise NfoError("a <genre> holds more than text; edit this file by hand")
        begin = _before_space(content, document, element.start)
        edits.append((begin, document.end_of(content, element.start, element.close), b""))
    if new := genres[len(elements) :]:
        edits.append(_insertion(content, document, [f"<genre>{escape(genre)}</genre>" for genre in new]))
    result = content
    for begin, end, replacement in sorted(edits, reverse=True):
        result = result[:begin] + replacement + result[end:]
    _check(content, result, genres)
    return result


def new_nfo(title: str, year: int | None, genres: Sequence[str]) -> bytes:
    """A minimal NFO for a film that has none."""
    lines = [f"  <title>{escape(title)}</title>"]
    lines += [f"  <year>{year}</year>"] if year else []
    lines += [f"  <genre>{escape(genre)}</genre>" for genre in genres]
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    return "\n".join([head, "<movie>", *lines, "</movie>", ""]).encode()


def _lead(content: bytes) -> int:
    """How many bytes of white space stand before an XML declaration, where XML allows none and media centres do."""
    stripped = content.lstrip(b" \t\r\n")
    return len(content) - len(stripped) if stripped.startswith(b"<?xml") else 0


def _parse(content: bytes, *, events: bool = False) -> _Document:
    if len(content) > MAX_BYTES:
        raise NfoError(f"it is larger than {MAX_BYTES // 2**20} MiB; no NFO is: look at what it holds")
    target, error = _feed(content, None, events=events)
    override = None
    if isinstance(error, ParseError) and error.code == WRONG_ENCODING:
        # .NET's StringWriter declares UTF-16 whatever the file is then saved in; media centres read it as UTF-8.
        override = "utf-8"
        target, error = _feed(content, override, events=events)
    if isinstance(error, DefusedXmlException):
        raise NfoError("it has a document type or XML entities, which are refused; remove the <!DOCTYPE …>")
    if isinstance(error, ParseError) and target.root_close is None:
        if re.match(rb"(\xef\xbb\xbf)?\s*https?://\S+\s", content + b"\n") and b"<" not in content:
            raise NotAFilmError("it holds only a link")
        raise NfoError(f"it is not XML ({error}); write it again with your media manager")
    if error is not None and target.root_close is None:
        raise NfoError(f"its encoding cannot be read ({error}); save it as UTF-8")
    assert target.root_close is not None
    if target.root != "movie":
        raise NotAFilmError(f"it describes <{target.root}>, not a film")
    document = _Document(target, target.root_close, _codec(content, override or target.declared))
    # Kodi allows links after the XML; a second element there would be a second film.
    rest = content[document.end_of(content, target.root_start, document.root_close) :] if error is not None else b""
    if re.search(rb"<\x00?[A-Za-z]", rest):
        raise NfoError("it holds more than one film; give each its own NFO")
    return document


def _feed(content: bytes, encoding: str | None, *, events: bool) -> tuple[_Target, Exception | None]:
    """Parse as far as it goes. Returns what was found and what stopped the parser."""
    target = _Target(events=events)
    parser = DefusedXMLParser(target=target, encoding=encoding, forbid_dtd=True)
    target.attach(parser.parser)
    try:
        parser.feed(content)
        parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        return target, error
    return target, None


def _codec(content: bytes, declared: str | None) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, b"<\x00")):
        return "utf-16-le"
    if content.startswith((codecs.BOM_UTF16_BE, b"\x00<")):
        return "utf-16-be"
    try:
        return codecs.lookup(declared or "utf-8").name
    except LookupError:
        raise NfoError(f"its encoding {declared!r} is unknown; save it as UTF-8") from None


def _overwritten(content: bytes, document: _Document, element: _Element, end: int, genre: str) -> bytes:
    """The bytes of the element with its text replaced and its attributes kept."""
    if not element.plain:
        raise NfoError("a <genre> holds more than text; edit this file by hand")
    text = content[element.start : end].decode(document.codec)
    match = START_TAG.match(text)
    assert match is not None
    tag, name = match.group(0), match.group(1)
    if tag.endswith("/>"):
        return document.encode(f"{tag[:-2].rstrip()}>{escape(genre)}</{name}>")
    close = content[element.close : end]
    return document.encode(tag + escape(genre)) + close


def _insertion(content: bytes, document: _Document, new: Sequence[str]) -> tuple[int, int, bytes]:
    """The edit that puts elements after the last genre, else after the last child, else into the empty root."""
    target = document.target
    last = (target.genres[-1].start, target.genres[-1].close) if target.genres else target.last_child
    if last is not None:
        start, close = last
        position = document.end_of(content, start, close)
        space = content[_before_space(content, document, start) : start]
        return position, position, b"".join(space + document.encode(element) for element in new)
    end = document.end_of(content, target.root_start, document.root_close)
    match = START_TAG.match(content[target.root_start : end].decode(document.codec))
    assert match is not None
    tag = match.group(0)
    position = target.root_start + len(document.encode(tag))
    if tag.endswith("/>"):
        inner = tag[:-2].rstrip() + ">" + "".join(new) + f"</{match.group(1)}>"
        return target.root_start, end, document.encode(inner)
    return position, position, document.encode("".join(new))


def _before_space(content: bytes, document: _Document, position: int) -> int:
    """Where the white space begins that ends at `position`."""
    blanks = {document.encode(blank) for blank in " \t\r\n"}
    step = len(document.encode(" "))
    while content[position - step : position] in blanks:
        position -= step
    return position


def _check(before: bytes, after: bytes, genres: Sequence[str]) -> None:
    """Prove by reading both that `after` has the genres and is otherwise what `before` is."""
    old, new = _parse(before, events=True), _parse(after, events=True)
    rest_before = before[old.end_of(before, old.target.root_start, old.root_close) :]
    rest_after = after[new.end_of(after, new.target.root_start, new.root_close) :]
    same = (
        old.target.events == new.target.events
        and before[: old.target.root_start] == after[: new.target.root_start]
        and rest_before == rest_after
        and [element.text.strip() for element in new.target.genres] == [genre.strip() for genre in genres]
    )
    if not same:
        raise NfoError("its genres cannot be changed without changing more; edit this file by hand")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _is_genre(event: tuple[str, Any]) -> bool:
    return event[0] == "start" and _local(event[1][0]) == "genre"


def _genres_of(target: _Target) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for element in target.genres:
        for genre in split_genres(element.text):
            found.setdefault(genre.casefold(), genre)
    return tuple(found.values())


def _year(text: str) -> int | None:
    match = re.match(r"\d{4}(?!\d)", text)
    return int(match.group(0)) if match and match.group(0) > "1800" else None


def _lock(fields: dict[str, str]) -> str | None:
    if fields.get("lockdata", "").casefold() in ("true", "1", "yes"):
        return "lockdata"
    locked = re.split(r"[|,]", fields.get("lockedfields", ""))
    return "lockedfields" if any(field.strip().casefold() in ("genres", "genre") for field in locked) else None
