"""Changing an NFO's genres by splicing bytes, so that nothing else changes.

Serialising a file anew would change its quoting, its order of attributes, its indentation or its line endings. So the
bytes of the `<genre>` elements are replaced where they lie (expat tells the offsets), and the result is read again to
prove that everything else is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from mmgcs.library.nfo import NOT_XML, START_TAG, Document, Element, NfoError, parse_nfo, space_before


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
    if lead := space_before(content):
        return content[:lead] + with_genres(content[lead:], genres)
    document = parse_nfo(content)
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
    parts, done = [], 0
    for begin, end, replacement in sorted(edits):
        parts += [content[done:begin], replacement]
        done = end
    result = b"".join([*parts, content[done:]])
    _check(content, result, genres)
    return result


def new_nfo(title: str, year: int | None, genres: Sequence[str]) -> bytes:
    """A minimal NFO for a film that has none. What XML cannot hold of a title becomes U+FFFD."""
    sound = NOT_XML.sub("\ufffd", title)
    lines = [f"  <title>{escape(sound)}</title>"]
    lines += [f"  <year>{year}</year>"] if year else []
    lines += [f"  <genre>{escape(genre)}</genre>" for genre in genres]
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    return "\n".join([head, "<movie>", *lines, "</movie>", ""]).encode()


def _overwritten(content: bytes, document: Document, element: Element, end: int, genre: str) -> bytes:
    """The bytes of the element with its text replaced and its attributes kept."""
    if not element.plain:
        raise NfoError("a <genre> holds more than text; edit this file by hand")
    text = document.decode(content[element.start : end])
    match = START_TAG.match(text)
    assert match is not None
    tag, name = match.group(0), match.group(1)
    if tag.endswith("/>"):
        return document.encode(f"{tag[:-2].rstrip()}>{escape(genre)}</{name}>")
    close = content[element.close : end]
    return document.encode(tag + escape(genre)) + close


def _insertion(content: bytes, document: Document, new: Sequence[str]) -> tuple[int, int, bytes]:
    """The edit that puts elements after the last genre, else after the last child, else into the empty root."""
    target = document.target
    last = (target.genres[-1].start, target.genres[-1].close) if target.genres else target.last_child
    if last is not None:
        start, close = last
        position = document.end_of(content, start, close)
        space = content[_before_space(content, document, start) : start]
        return position, position, b"".join(space + document.encode(element) for element in new)
    end = document.end_of(content, target.root_start, document.root_close)
    match = START_TAG.match(document.decode(content[target.root_start : end]))
    assert match is not None
    tag = match.group(0)
    position = target.root_start + len(document.encode(tag))
    if tag.endswith("/>"):
        inner = tag[:-2].rstrip() + ">" + "".join(new) + f"</{match.group(1)}>"
        return target.root_start, end, document.encode(inner)
    return position, position, document.encode("".join(new))


def _before_space(content: bytes, document: Document, position: int) -> int:
    """Where the white space begins that ends at `position`."""
    blanks = {document.encode(blank) for blank in " \t\r\n"}
    step = len(document.encode(" "))
    while content[position - step : position] in blanks:
        position -= step
    return position


def _check(before: bytes, after: bytes, genres: Sequence[str]) -> None:
    """Prove by reading both that `after` has the genres and is otherwise what `before` is."""
    old, new = parse_nfo(before, events=True), parse_nfo(after, events=True)
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
