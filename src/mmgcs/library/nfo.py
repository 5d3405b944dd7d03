"""NFO files, read with defusedxml: what a film's file says, and at which bytes its elements lie.

Kodi, Jellyfin, Emby, Plex agents, tinyMediaManager, MediaElch and Radarr keep a film's metadata in an XML file whose
root is `<movie>`. `nfo_edit` changes its genres.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import XMLParserType

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from mmgcs.errors import InputError

MAX_BYTES = 16 * 2**20
"""The largest file that is read: a hundred times the largest NFO that any tool writes."""

MAX_GENRES = 10_000
"""`<genre>` elements that a file may have: an edit looks at each of them several times."""

WRONG_ENCODING = 19  # expat's XML_ERROR_INCORRECT_ENCODING
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file can hold."""
CODECS = re.compile(r"utf-8|utf-16(-[lb]e)?|ascii|iso8859-\d+|cp\d+|koi8-\w|mac-\w+|tis-620|hp-roman8|ptcp154|kz1048")
"""Python's names of the encodings that files are in; it has others, in which the bytes of `\\u0041` are one letter."""
SEPARATORS = re.compile(r"[/,|;]")
START_TAG = re.compile(r"""<([^\s/>]+)(?:"[^"]*"|'[^']*'|[^"'>])*>""")
_LOCKS = frozenset(("lockdata", "lockedfields"))
_READ = _LOCKS | frozenset("genre title originaltitle year premiered releasedate plot outline".split())


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
class Element:
    """A direct child of the root: its bytes are content[start:end], its inner bytes end at `close`."""

    text: str
    start: int
    close: int
    plain: bool  # holds text only: no element, comment or processing instruction


class Target:
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
        self.genres: list[Element] = []
        self.locks: dict[str, list[str]] = {}
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

    def close(self) -> None:
        """Nothing is left to do at the end; the parser asks for this method."""

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        self.declared = encoding
        if encoding is not None:
            _codec_name(encoding)  # before the parser asks Python's codec for each byte

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
            if len(self.genres) == MAX_GENRES:
                raise NfoError(f"it has more than {MAX_GENRES:,} genres; no film has: look at what it holds")
            self.genres.append(Element(text, self._start, close, self._plain))
            # What remains are the events that an edit must leave as they are.
            while self.events and not _is_genre(self.events.pop()):
                pass
        elif name in _LOCKS:
            self.locks.setdefault(name, []).append(text)  # of several, each one counts
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
class Document:
    """A parsed file: what was found, and the codec that its bytes are in."""

    target: Target
    root_close: int
    codec: str

    def end_of(self, content: bytes, start: int, close: int) -> int:
        """Where the element ends that begins at `start` and whose end event came at `close`."""
        shown = self.decode(content[start:close])
        tag = START_TAG.match(shown)
        if tag is not None and tag.end() == len(shown) and shown.endswith("/>"):
            return close  # an empty element: expat reports the byte after it
        bracket = self.encode(">")
        index = content.index(bracket, close)
        while (index - close) % len(bracket):  # the halves of two characters of a two-byte encoding
            index = content.index(bracket, index + 1)
        return index + len(bracket)

    def decode(self, content: bytes) -> str:
        """The text of bytes of the file.

        Raises:
            NfoError: they are not in the file's encoding.
        """
        try:
            return content.decode(self.codec)
        except UnicodeError as error:
            raise NfoError(f"its encoding cannot be read ({error}); save it as UTF-8") from error

    def encode(self, text: str) -> bytes:
        """The text in the file's encoding; characters that it lacks as `&#…;`."""
        return text.encode(self.codec, errors="xmlcharrefreplace")


def read_nfo(content: bytes) -> Nfo:
    """Read a film's NFO from the bytes of its file.

    Raises:
        NotAFilmError: the root is not `<movie>`, or the file holds only a link.
        NfoError: the file is not XML, or has a document type or entities (refused: they can read other files).
    """
    target = parse_nfo(content[space_before(content) :]).target
    fields = target.fields
    return Nfo(
        title=fields.get("title") or fields.get("originaltitle") or None,
        year=next((year for key in ("year", "premiered", "releasedate") if (year := _year(fields.get(key, "")))), None),
        plot=fields.get("plot") or fields.get("outline") or None,
        genres=_genres_of(target),
        locked=_lock(target.locks),
    )


def split_genres(text: str) -> list[str]:
    """The genres in the text of one element: "Drama / Crime" and "Drama, Crime" are two. "N/A" is none."""
    if text.strip().casefold() == "n/a":
        return []
    return [part for piece in SEPARATORS.split(text) if (part := " ".join(piece.split()))]


def space_before(content: bytes) -> int:
    """How many bytes of white space stand before an XML declaration, where XML allows none and media centres do."""
    stripped = content.lstrip(b" \t\r\n")
    return len(content) - len(stripped) if stripped.startswith(b"<?xml") else 0


def parse_nfo(content: bytes, *, events: bool = False) -> Document:
    """Find a film's elements in a file that begins without `space_before`.

    Args:
        content: the bytes of the file.
        events: also note everything that an edit of the genres must leave as it is.

    Raises:
        NotAFilmError, NfoError: as `read_nfo`.
    """
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
    document = Document(target, target.root_close, _codec(content, override or target.declared))
    # Kodi allows links after the XML; a second element there would be a second film.
    rest = content[document.end_of(content, target.root_start, document.root_close) :] if error is not None else b""
    if re.search(rb"<\x00?[A-Za-z]", rest):
        raise NfoError("it holds more than one film; give each its own NFO")
    return document


def _feed(content: bytes, encoding: str | None, *, events: bool) -> tuple[Target, Exception | None]:
    """Parse as far as it goes. Returns what was found and what stopped the parser."""
    target = Target(events=events)
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
    return _codec_name(declared or "utf-8")


def _codec_name(declared: str) -> str:
    with contextlib.suppress(LookupError):
        if CODECS.fullmatch(name := codecs.lookup(declared).name):
            return name
    raise NfoError(f"its encoding {declared!r} cannot be read; save it as UTF-8")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _is_genre(event: tuple[str, Any]) -> bool:
    return event[0] == "start" and _local(event[1][0]) == "genre"


def _genres_of(target: Target) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for element in target.genres:
        for genre in split_genres(element.text):
            found.setdefault(genre.casefold(), genre)
    return tuple(found.values())


def _year(text: str) -> int | None:
    match = re.match(r"\d{4}(?!\d)", text)
    return int(match.group(0)) if match and match.group(0) > "1800" else None


def _lock(locks: dict[str, list[str]]) -> str | None:
    said = {
        name: {word.strip().casefold() for text in locks.get(name, ()) for word in re.split(r"[|,]", text)}
        for name in _LOCKS
    }
    if said["lockdata"] & {"true", "1", "yes"}:
        return "lockdata"
    return "lockedfields" if said["lockedfields"] & {"genres", "genre"} else None
