"""Changing an NFO's genres by splicing bytes, so that nothing else changes.

Serialising a file anew would change its quoting, its order of attributes, its indentation or its line endings. So the
bytes of the `<genre>` elements are replaced where they are (expat reports the offsets), and the result is read again to
prove that everything else is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from mmgcs.library.nfo import NOT_XML, START_TAG, Document, Element, NfoError, parse_nfo


def with_values(content: bytes, values: Sequence[str], name: str = "genre") -> bytes:
    """Return the file with one `<genre>` for each value and everything else byte for byte as it was.

    Elements that already hold the right value are not touched; others are overwritten in place with their attributes
    kept, surplus ones go with the white space before them, and missing ones follow the last one, or the film's last
    element if there is none, indented like it and with the same line ending.

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
    document = parse_nfo(content, events_without=name)
    if name == "genre" and "genres" in document.target.fields:
        raise NfoError("its <genres> holds text, not <genre> elements; edit this file by hand")
    elements = document.target.lists[name]
    edits: list[tuple[int, int, bytes]] = []
    for element, value in zip(elements, values, strict=False):
        if element.text.strip() != value:
            end = document.end_of(element.start, element.close)
            edits.append((element.start, end, _overwritten(document, element, end, value)))
    for element in elements[len(values) :]:
        if not element.plain:
            raise NfoError(f"a <{name}> holds more than text; edit this file by hand")
        edits.append((_before_space(document, element.start), document.end_of(element.start, element.close), b""))
    if new := values[len(elements) :]:
        last = (elements[-1].start, elements[-1].close) if elements else document.target.last_child
        edits.append(_insertion(document, last, [f"<{name}>{escape(value)}</{name}>" for value in new]))
    parts, done = [], 0
    for begin, end, replacement in sorted(edits):
        parts += [content[done : document.source.original(begin)], replacement]
        done = document.source.original(end)
    result = b"".join([*parts, content[done:]])
    _check(document, parse_nfo(result, events_without=name), values, name)
    return result


def new_nfo(title: str, year: int | None, values: Sequence[str], name: str = "genre") -> bytes:
    """Return a minimal NFO for a film that has none. What XML cannot hold of a title becomes U+FFFD."""
    sound = NOT_XML.sub("\ufffd", title)
    lines = [f"  <title>{escape(sound)}</title>"]
    lines += [f"  <year>{year}</year>"] if year else []
    lines += [f"  <{name}>{escape(value)}</{name}>" for value in values]
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    return "\n".join([head, "<movie>", *lines, "</movie>", ""]).encode()


def _overwritten(document: Document, element: Element, end: int, value: str) -> bytes:
    """Return the bytes of the element with its text replaced and its attributes kept."""
    text = document.decode(document.content[element.start : end])
    match = START_TAG.match(text)
    assert match is not None
    tag, name = match.group(0), match.group(1)
    if not element.plain:
        raise NfoError(f"a <{name}> holds more than text; edit this file by hand")
    if tag.endswith("/>"):
        return document.encode(f"{tag[:-2].rstrip()}>{escape(value)}</{name}>")
    close = document.content[element.close : end]
    return document.encode(tag + escape(value)) + close


def _insertion(document: Document, last: tuple[int, int] | None, new: Sequence[str]) -> tuple[int, int, bytes]:
    """Return the edit that puts elements after the `last` one, or into the empty root."""
    if last is not None:
        start, close = last
        position = document.end_of(start, close)
        space = document.content[_before_space(document, start) : start]
        return position, position, b"".join(space + document.encode(element) for element in new)
    root_start = document.target.root_start
    end = document.end_of(root_start, document.root_close)
    match = START_TAG.match(document.decode(document.content[root_start:end]))
    assert match is not None
    tag = match.group(0)
    position = root_start + len(document.encode(tag))
    if tag.endswith("/>"):
        inner = tag[:-2].rstrip() + ">" + "".join(new) + f"</{match.group(1)}>"
        return root_start, end, document.encode(inner)
    return position, position, document.encode("".join(new))


def _before_space(document: Document, position: int) -> int:
    """Return where the white space begins that ends at `position`."""
    blanks = {document.encode(blank) for blank in " \t\r\n"}
    step = len(document.encode(" "))
    while document.content[position - step : position] in blanks:
        position -= step
    return position


def _check(old: Document, new: Document, values: Sequence[str], name: str) -> None:
    """Prove that `new` has the values and is otherwise what `old` is."""
    same = (
        old.target.events == new.target.events
        and old.content[: old.target.root_start] == new.content[: new.target.root_start]
        and _after_root(old) == _after_root(new)
        and [element.text.strip() for element in new.target.lists[name]] == [value.strip() for value in values]
    )
    if not same:
        raise NfoError("its genres cannot be changed without changing more; edit this file by hand")


def _after_root(document: Document) -> bytes:
    return document.content[document.end_of(document.target.root_start, document.root_close) :]
