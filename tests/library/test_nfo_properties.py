"""An edit changes nothing but the genres, whatever the file holds."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from hypothesis import given, settings
from hypothesis import strategies as st

from mmgcs.genres import NO_GENRES
from mmgcs.library.nfo import read_nfo, with_values

ENCODINGS = {
    "utf-8": "utf-8",
    "utf-8-sig": "utf-8",
    "utf-16": "utf-16",
    "iso-8859-1": "iso-8859-1",
    "windows-1251": "windows-1251",
}
NAMES = st.sampled_from("title plot actor fileinfo set thumb uniqueid lockdata x-y a.b ns_1 Genre".split())
# XML forbids control characters, and a carriage return in text is read as a line feed.
CHARACTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co"), include_characters="\t\n")
TEXT = st.text(CHARACTERS, max_size=20)
GENRES = st.lists(
    st.text(st.characters(codec="utf-8", categories=("L", "Nd", "P", "S"), exclude_characters="/,|;"), min_size=1)
    .map(lambda text: text.strip())
    .filter(lambda text: text.casefold() not in NO_GENRES),
    min_size=1,
    max_size=6,
    unique_by=lambda text: text.casefold(),
)


def comment(text: str) -> str:
    return "<!--" + text.replace("-", "=") + "-->"


def cdata(text: str) -> str:
    return "<![CDATA[" + text.replace("]]>", "") + "]]>"


CONTENT = TEXT.map(escape) | TEXT.map(cdata) | TEXT.map(comment) | st.just("<?do it?>")


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> str:
    name = draw(NAMES)
    attributes = "".join(f" {key}={quoteattr(draw(TEXT))}" for key in draw(st.sets(st.sampled_from("abc"))))
    children = [] if depth > 1 else draw(st.lists(CONTENT | elements(depth + 1), max_size=3))
    if not children and draw(st.booleans()):
        return f"<{name}{attributes}/>"
    return f"<{name}{attributes}>{''.join(children)}</{name}>"


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw a file, and its pieces that are not genres, in order."""
    encoding = draw(st.sampled_from(sorted(ENCODINGS)))
    newline = draw(st.sampled_from(["\n", "\r\n", "", "\n    "]))
    declaration = f'<?xml version="1.0" encoding="{ENCODINGS[encoding]}"?>'
    pieces = draw(st.lists(elements() | TEXT.map(comment), max_size=5))
    genres = draw(st.lists(TEXT.map(lambda text: f'<genre id="é">{escape(text)}</genre>') | st.just("<genre/>")))
    mixed = draw(st.permutations(pieces + genres))
    tail = draw(st.sampled_from(["", "\r\n", "\nhttps://www.imdb.com/title/tt0013442/?a=1&b=2 > \n"]))
    text = declaration + newline + "<movie>" + "".join(newline + piece for piece in mixed) + newline + "</movie>" + tail
    codec = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(encoding, encoding)
    kept = [piece.encode(codec, "xmlcharrefreplace") for piece in mixed if not piece.startswith("<genre")]
    safe = text if codec.startswith("utf") else drop_unencodable(text, codec)
    return safe.encode(encoding), kept if safe == text else []


def drop_unencodable(text: str, codec: str) -> str:
    return text.encode(codec, "ignore").decode(codec)


@settings(max_examples=100, deadline=None)
@given(files(), GENRES)
def test_an_edit_leaves_everything_else_in_its_order(file: tuple[bytes, list[bytes]], genres: list[str]) -> None:
    content, kept = file
    edited = with_values(content, genres)
    before, after = read_nfo(content), read_nfo(edited)
    assert list(after.genres) == genres
    assert (after.title, after.year, after.plot, after.locked) == (
        before.title,
        before.year,
        before.plot,
        before.locked,
    )
    position = 0
    for piece in kept:
        position = edited.index(piece, position) + len(piece)
    assert with_values(edited, genres) == edited


@settings(max_examples=50, deadline=None)
@given(files(), GENRES, st.data())
def test_a_file_cut_anywhere_is_refused_or_read_never_misread(
    file: tuple[bytes, list[bytes]], genres: list[str], data: st.DataObject
) -> None:
    content, _ = file
    cut = content[: data.draw(st.integers(0, len(content)))]
    try:
        edited = with_values(cut, genres)
    except ValueError as error:
        raise AssertionError("a damaged file must raise NfoError") from error
    except Exception as error:
        assert type(error).__name__ in ("NfoError", "NotAFilmError", "NotXmlError")
    else:
        assert list(read_nfo(edited).genres) == genres
