"""NFO files, read with defusedxml: what a film's file says, and at which bytes its elements are.

Kodi, Jellyfin, Emby, tinyMediaManager, MediaElch and Radarr keep a film's metadata in an XML file whose root is
`<movie>`. Files that are not quite XML (a bare `&`, `&nbsp;`, bytes of another encoding, a link before the XML) are
read if their meaning is plain. `nfo_edit` changes genres.
"""

from __future__ import annotations

import bisect
import codecs
import contextlib
import html.entities
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import XMLParserType

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from mmgcs.errors import InputError
from mmgcs.preprocess import is_placeholder

MAX_BYTES = 16 * 2**20
"""The largest file that is read: a hundred times the largest NFO that any tool writes."""
MAX_GENRES = 10_000
"""`<genre>` elements that a file may have."""
MAX_REPAIRS = 10_000
"""Places that may be repaired for reading."""

WRONG_ENCODING = 19  # expat's XML_ERROR_INCORRECT_ENCODING
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file can hold."""
CODECS = re.compile(r"utf-8|utf-16(-[lb]e)?|ascii|iso8859-\d+|cp\d+|koi8-\w|mac-\w+|tis-620|hp-roman8|ptcp154|kz1048")
"""Python's names of the encodings that files are in; it has others, in which the bytes of `\\u0041` are one letter."""
SEPARATORS = re.compile(r"[/,|;]")
START_TAG = re.compile(r"""<([^\s/>]+)(?:"[^"]*"|'[^']*'|[^"'>])*>""")
_LOCKS = frozenset(("lockdata", "lockedfields"))
_IDS = {"uniqueid": "", "tmdbid": "tmdb", "imdbid": "imdb", "imdb_id": "imdb", "id": "imdb"}
_LISTS = frozenset(("genre", "tag"))
_READ = _LOCKS | _LISTS | _IDS.keys() | frozenset("genres title originaltitle year premiered releasedate".split())
_READ |= frozenset(("plot", "outline"))

# What may stand before the XML although XML allows nothing there: a byte order mark, white space, links.
_BEFORE = re.compile(rb"(?:\xef\xbb\xbf)?\s*+(?:https?://[^\s<]++\s*+)*+(?=<\?xml|<movie)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_UTF_8 = re.compile(
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})++"
    rb"|(?P<bad>.)",
    re.DOTALL,
)
_MARKUP = re.compile(
    rb"<!\[CDATA\[.*?\]\]>|<!--.*?-->|<\?.*?\?>"
    rb"|(?P<bad>&(?:#(?P<number>[0-9]{1,8}|x[0-9a-fA-F]{1,8});|(?P<name>[A-Za-z][A-Za-z0-9]{1,31});)?|<(?=[\s\d=<&]))",
    re.DOTALL,
)
_XML_ENTITIES = frozenset(("amp", "lt", "gt", "quot", "apos"))


class NfoError(InputError):
    """An NFO that cannot be read or safely edited. The message says why, without naming the file."""


class NotAFilmError(NfoError):
    """A sound file that does not describe a film: a series, an episode, a music video, or only a link."""


class NotXmlError(NotAFilmError):
    """A text that is not XML at all, such as release notes."""


@dataclass(frozen=True, slots=True)
class Nfo:
    """What a film's NFO says.

    Attributes:
        title: `<title>`, or `<originaltitle>` without one.
        year: `<year>`, or the year of `<premiered>` or `<releasedate>`.
        plot: `<plot>`, or `<outline>` if that is empty or a placeholder such as "N/A".
        genres: the genres as the file spells them, "A / B" and comma lists taken apart, each once.
        tags: the `<tag>` elements.
        locked: why the file asks for its genres to be left alone ("lockdata" or "lockedfields"), or None.
        ids: the film's ids, by "tmdb" and "imdb".
        placeholder: the plot, if it is only a placeholder.
        repairs: what had to be repaired to read the file, in words.
    """

    title: str | None
    year: int | None
    plot: str | None
    genres: tuple[str, ...]
    tags: tuple[str, ...]
    locked: str | None
    ids: Mapping[str, str]
    placeholder: str | None
    repairs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Element:
    """An element that holds a value: its bytes are content[start:end], its inner bytes end at `close`."""

    text: str
    start: int
    close: int
    plain: bool  # holds text only: no element, comment or processing instruction


class Target:
    """What the parser calls: notes where the root's children begin and end, and the text of those that matter.

    `<genre>` elements count as children of the root, and as children of a `<genres>` there.
    """

    def __init__(self, events_without: str | None = None) -> None:
        self._depth = 0
        self._level = 2  # the depth of the element whose text is read
        self._text: list[str] = []
        self._start = self._child_start = 0
        self._name = self._child = ""
        self._id = ""
        self._plain = True
        self._edited = events_without
        self.root: str | None = None
        self.root_start = 0
        self.root_close: int | None = None
        self.lists: dict[str, list[Element]] = {"genre": [], "tag": []}
        self.locks: dict[str, list[str]] = {}
        self.fields: dict[str, str] = {}
        self.plots: list[str] = []
        self.ids: dict[str, str] = {}
        self.last_child: tuple[int, int] | None = None
        self.declared: str | None = None
        self.events: list[tuple[str, Any]] | None = [] if events_without else None

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
        """Do nothing at the end; the parser asks for this method."""

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        self.declared = encoding
        if encoding is not None:
            _codec_name(encoding)  # before the parser asks Python's codec for each byte

    def _on_start(self, tag: str, attributes: list[str]) -> None:
        depth = self._depth = self._depth + 1
        name = _local(tag) if tag[0] == "{" else tag
        if depth == 2:
            self._child, self._child_start = name, self._parser.CurrentByteIndex
            self._begin(name, self._child_start, depth)
            if name == "uniqueid":
                self._id = dict(zip(attributes[::2], attributes[1::2], strict=False)).get("type", "").casefold()
        elif depth == 3 and name == "genre" and self._child == "genres":
            self._begin(name, self._parser.CurrentByteIndex, depth)
        elif depth == 1:
            self.root = name
            self.root_start = self._parser.CurrentByteIndex
        else:
            self._plain = False
        if self.events is not None:
            self.events.append(("start", (tag, attributes)))

    def _begin(self, name: str, start: int, depth: int) -> None:
        self._name, self._start, self._level, self._plain = name, start, depth, True
        if name in _READ:
            self._text = []
            self._parser.CharacterDataHandler = self._on_text

    def _on_text(self, text: str) -> None:
        if self._depth == self._level:
            self._text.append(text)
        if self.events is not None:
            if self._depth == 1 or (self._depth == 2 and self._child == "genres"):
                text = text.strip()  # what stands between elements changes with their number
            if text:
                self.events.append(("text", text))

    def _on_end(self, tag: str) -> None:
        if self.events is not None:
            self.events.append(("end", tag))
        depth = self._depth
        self._depth = depth - 1
        if depth == self._level and self._name in _READ:
            self._end_of_read(self._name, self._parser.CurrentByteIndex)
        if depth == 2:
            self.last_child = (self._child_start, self._parser.CurrentByteIndex)
        elif depth == 3 and self._level == 3:  # back in <genres>, whose own text was not of genres
            self._begin("genres", self._child_start, 2)
        elif depth == 1:
            self.root_close = self._parser.CurrentByteIndex

    def _end_of_read(self, name: str, close: int) -> None:
        text = "".join(self._text)
        if self.events is None:
            self._parser.CharacterDataHandler = None
        if name in _LISTS:
            elements = self.lists[name]
            if len(elements) == MAX_GENRES:
                raise NfoError(f"it has more than {MAX_GENRES:,} genres; no film has: look at what it holds")
            elements.append(Element(text, self._start, close, self._plain))
            # What remains are the events that an edit must leave as they are.
            while name == self._edited and self.events and not _starts(self.events.pop(), name):
                pass
        elif name in _LOCKS:
            self.locks.setdefault(name, []).append(text)  # of several, each one counts
        elif name in _IDS:
            if kind := _IDS[name] or self._id:
                self.ids.setdefault(kind, text.strip())
        elif text.strip():
            value = " ".join(text.split())
            self.fields.setdefault(name, value)
            if name in ("plot", "outline"):
                self.plots.insert(0 if name == "plot" else len(self.plots), value)

    def _on_comment(self, text: str) -> None:
        self._plain = False
        if self.events is not None:
            self.events.append(("comment", text))

    def _on_instruction(self, target: str, data: str) -> None:
        self._plain = False
        if self.events is not None:
            self.events.append(("instruction", (target, data)))


@dataclass(slots=True)
class Repaired:
    """Bytes that are XML, made from bytes that are nearly XML.

    Attributes:
        content: the XML.
        notes: what was repaired, in words.
    """

    content: bytes
    notes: dict[str, None] = field(default_factory=dict)
    _ends: list[int] = field(default_factory=list)  # where each replacement ends in `content`,
    _shifts: list[int] = field(default_factory=list)  # and how far the original is ahead from there on

    def original(self, position: int) -> int:
        """Return the place in the original bytes of a place in `content`."""
        number = bisect.bisect_right(self._ends, position)
        return position + (self._shifts[number - 1] if number else 0)

    def splice(self, content: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        """Set `content` to `content` with each content[start:end] replaced; the changes are in order."""
        parts, done, shift = [], 0, 0
        for start, end, new in changes:
            parts += [content[done:start], new]
            shift += end - start - len(new)
            self._ends.append(end - shift)
            self._shifts.append(shift)
            done = end
        self.content = b"".join([*parts, content[done:]])


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: what was found, the bytes that were parsed, and the codec that they are in."""

    target: Target
    source: Repaired
    root_close: int
    codec: str

    @property
    def content(self) -> bytes:
        """The bytes that every position is in."""
        return self.source.content

    def end_of(self, start: int, close: int) -> int:
        """Return where the element ends that begins at `start` and whose end event came at `close`."""
        content = self.content
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
        """Return the text of bytes of the file.

        Raises:
            NfoError: they are not in the file's encoding.
        """
        try:
            return content.decode(self.codec)
        except UnicodeError as error:
            raise NfoError(f"its encoding cannot be read ({error}); save it as UTF-8") from error

    def encode(self, text: str) -> bytes:
        """Return the text in the file's encoding, with `&#…;` for the characters that it lacks."""
        # A file that is not in the encoding that it declares gets ASCII, which is right in both.
        return text.encode("ascii" if _WRONG_BYTES in self.source.notes else self.codec, errors="xmlcharrefreplace")


_WRONG_BYTES = "bytes that are not UTF-8 were read as Windows-1252"


def read_nfo(content: bytes) -> Nfo:
    """Read a film's NFO from the bytes of its file.

    Raises:
        NotXmlError: the file is not XML at all.
        NotAFilmError: the root is not `<movie>`, or the file holds only a link.
        NfoError: the file is damaged, or has a document type or entities (refused: they can read other files).
    """
    document = parse_nfo(content)
    target = document.target
    fields = target.fields
    plots = [plot for plot in target.plots if not is_placeholder(plot)]
    return Nfo(
        title=fields.get("title") or fields.get("originaltitle") or None,
        year=next((year for key in ("year", "premiered", "releasedate") if (year := _year(fields.get(key, "")))), None),
        plot=plots[0] if plots else None,
        genres=_genres_of(target),
        tags=tuple(dict.fromkeys(text for tag in target.lists["tag"] if (text := " ".join(tag.text.split())))),
        locked=_lock(target.locks),
        ids=target.ids,
        placeholder=target.plots[0] if target.plots and not plots else None,
        repairs=tuple(document.source.notes),
    )


def split_genres(text: str) -> list[str]:
    """Return the genres in the text of one element: "Drama / Crime" and "Drama, Crime" are two. "N/A" is none."""
    if text.strip().casefold() == "n/a":
        return []
    return [part for piece in SEPARATORS.split(text) if (part := " ".join(piece.split()))]


def parse_nfo(content: bytes, events_without: str | None = None) -> Document:
    """Find a film's elements in a file, repaired if it is not quite XML.

    Args:
        content: the bytes of the file.
        events_without: also note everything that an edit of the elements of this name must leave as it is.

    Raises:
        NotXmlError, NotAFilmError, NfoError: as `read_nfo`.
    """
    if len(content) > MAX_BYTES:
        raise NfoError(f"it is larger than {MAX_BYTES // 2**20} MiB; no NFO is: look at what it holds")
    try:
        return _parse(Repaired(content), events_without)
    except NotAFilmError:
        raise
    except NfoError as error:
        repaired = _repair(content) if isinstance(error.__cause__, ParseError) else None
        if repaired is None:
            raise
        try:
            return _parse(repaired, events_without)
        except NotAFilmError:
            raise
        except NfoError:
            raise error from None  # about the file as it is


def _parse(source: Repaired, events_without: str | None) -> Document:
    content = source.content
    target, error = _feed(content, None, events_without)
    override = None
    if isinstance(error, ParseError) and error.code == WRONG_ENCODING:
        # .NET's StringWriter declares UTF-16 whatever the file is then saved in; media servers read it as UTF-8.
        override = "utf-8"
        target, error = _feed(content, override, events_without)
    if isinstance(error, NfoError):
        raise error
    if isinstance(error, DefusedXmlException):
        raise NfoError("it has a document type or XML entities, which are refused; remove the <!DOCTYPE …>")
    if target.root_close is None:
        assert error is not None
        raise _unreadable(content, error) from error
    if target.root != "movie":
        raise NotAFilmError(f"it describes <{target.root}>, not a film")
    document = Document(target, source, target.root_close, _codec(content, override or target.declared))
    # Kodi allows links after the XML; a second element there would be a second film.
    rest = content[document.end_of(target.root_start, document.root_close) :] if error is not None else b""
    if re.search(rb"<\x00?[A-Za-z]", rest):
        raise NfoError("it holds more than one film; give each its own NFO")
    return document


def _feed(content: bytes, encoding: str | None, events_without: str | None) -> tuple[Target, Exception | None]:
    """Parse as far as possible. Returns what was found and what stopped the parser."""
    target = Target(events_without)
    parser = DefusedXMLParser(target=target, encoding=encoding, forbid_dtd=True)
    target.attach(parser.parser)
    try:
        parser.feed(content)
        parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError, NfoError) as error:
        return target, error
    return target, None


def _unreadable(content: bytes, error: Exception) -> NfoError:
    """Return the error for a file that the parser gave up on."""
    plain = content.replace(b"\0", b"")
    if re.fullmatch(rb"(\xef\xbb\xbf)?\s*(?:https?://\S+\s+)+", plain + b"\n"):
        return NotAFilmError("it holds only a link")
    if not plain.strip():
        return NfoError("it is empty, not XML; have your media manager write it again")
    if b"<movie" not in plain and b"<?xml" not in plain:
        return NotXmlError("it is text, such as release notes, and not XML")
    if isinstance(error, ParseError):
        line, column = error.position
        what = str(error).partition(":")[0]
        return NfoError(
            f"it is not XML: {what} in line {line}, column {column + 1}; fix that line, or have your media manager "
            "write the file again"
        )
    return NfoError(f"its encoding cannot be read ({error}); save it as UTF-8")


def _repair(content: bytes) -> Repaired | None:
    """Make a nearly well-formed file well-formed; None if there is nothing that can be repaired."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\x00<" in content or b"<\x00" in content:
        return None
    notes: dict[str, None] = {}
    changes: list[tuple[int, int, bytes]] = []
    before = _BEFORE.match(content)
    begin = before.end() if before else 0
    if before and content[:begin] != codecs.BOM_UTF8 and begin:
        changes.append((0, begin, b""))
        if b"http" in content[:begin]:
            notes["the link before the XML was ignored"] = None
    for match in _CONTROL.finditer(content, begin):
        changes.append((match.start(), match.end(), b" "))
        notes["control characters were ignored"] = None
    declared = re.match(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)""", content[begin : begin + 200])
    if declared is None or declared[1].lower() in (b"utf-8", b"utf8"):
        for match in _UTF_8.finditer(content, begin):
            if match["bad"]:
                changes.append((match.start(), match.end(), match["bad"].decode("cp1252", "replace").encode()))
                notes[_WRONG_BYTES] = None
    for match in _MARKUP.finditer(content, begin):
        new = _well_formed(match)
        if new is not None and match["bad"] != new:
            changes.append((match.start(), match.end(), new))
            if len(notes) < 10:
                line = content.count(b"\n", 0, match.start()) + 1
                notes[f"{match['bad'].decode()} in line {line} is not XML and was read as meant"] = None
    if not changes or len(changes) > MAX_REPAIRS:
        return None
    repaired = Repaired(b"", notes)
    repaired.splice(content, sorted(changes))
    return repaired


def _well_formed(match: re.Match[bytes]) -> bytes | None:
    """Return what stands for a `&` or `<` in XML; None for comments and the like, which hold both as they are."""
    bad, number, name = match["bad"], match["number"], match["name"]
    if bad is None:
        return None
    if bad == b"<":
        return b"&lt;"
    if number is not None:
        code = int(number[1:], 16) if number[:1] == b"x" else int(number)
        return bytes(bad) if code < 0x110000 and not NOT_XML.match(chr(code)) else b" "
    if name is None:
        return b"&amp;"
    if name.decode() in _XML_ENTITIES:
        return bytes(bad)
    letters = html.entities.html5.get(f"{name.decode()};")
    if letters is None:
        return b"&amp;" + bad[1:]
    return "".join(f"&#{ord(letter)};" for letter in letters).encode()


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


def _starts(event: tuple[str, Any], name: str) -> bool:
    return event[0] == "start" and _local(event[1][0]) == name


def _genres_of(target: Target) -> tuple[str, ...]:
    texts = [element.text for element in target.lists["genre"]] or [target.fields.get("genres", "")]
    found: dict[str, str] = {}
    for text in texts:
        for genre in split_genres(text):
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
