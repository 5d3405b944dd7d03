"""NFO files of every tool are read, and an edit changes only its genres."""

from __future__ import annotations

import codecs
import contextlib
import re
import time
from pathlib import Path

import pytest

from mmgcs.library.nfo import NfoError, new_nfo, read_nfo, split_genres, with_values

SAMPLES = sorted((Path(__file__).parent.parent / "data" / "nfo").glob("*.nfo"))


def without_genres(content: bytes) -> bytes:
    """Cut the genres out of a file, in a different way from the code under test."""
    text = content.decode("utf-8")
    while (start := text.find("<genre")) >= 0:
        end = text.index("</genre>", start) + len("</genre>")
        text = text[:start].rstrip() + text[end:]
    return text.encode()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_files_of_every_tool_are_read(sample: Path) -> None:
    nfo = read_nfo(sample.read_bytes())
    assert nfo.title
    assert nfo.year
    assert nfo.plot
    assert len(nfo.plot.split()) > 8
    assert len(nfo.genres) >= 2
    assert nfo.locked is None


@pytest.mark.parametrize("genres", [["Horror"], ["Drama", "Crime"], ["A & B", "Zß", "C", "D", "E"]], ids=len)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_round_trip_changes_nothing_but_the_genres(sample: Path, genres: list[str]) -> None:
    content = sample.read_bytes()
    edited = with_values(content, genres)
    assert read_nfo(edited).genres == tuple(genres)
    assert without_genres(edited) == without_genres(content)
    before = read_nfo(content).genres
    assert sorted(read_nfo(with_values(edited, before)).genres) == sorted(before)


ONE, TWO = ["Drama"], ["Drama", "War"]
EDITS = {
    "an empty film": (b"<movie/>", ONE, b"<movie><genre>Drama</genre></movie>"),
    "an attribute": (b'<movie a="1>2" />', ONE, b'<movie a="1>2"><genre>Drama</genre></movie>'),
    "an empty genre": (
        b"<movie><genre clear='true' /></movie>",
        ONE,
        b"<movie><genre clear='true'>Drama</genre></movie>",
    ),
    "a genre's attributes": (
        b'<movie><genre id="18">X</genre ></movie>',
        ONE,
        b'<movie><genre id="18">Drama</genre ></movie>',
    ),
    "CDATA": (b"<movie><genre><![CDATA[X]]></genre></movie>", ONE, b"<movie><genre>Drama</genre></movie>"),
    "CDATA that is right": (
        b'<movie><genre id="1"><![CDATA[Drama]]></genre><genre id="2">X</genre></movie>',
        ONE,
        b'<movie><genre id="1"><![CDATA[Drama]]></genre></movie>',
    ),
    "two in one": (b"<movie><genre>Drama / X</genre></movie>", ONE, b"<movie><genre>Drama</genre></movie>"),
    "a byte order mark": (
        codecs.BOM_UTF8 + b"<movie><genre>X</genre></movie>",
        ONE,
        codecs.BOM_UTF8 + b"<movie><genre>Drama</genre></movie>",
    ),
    "a declaration": (
        b"\n <?xml version='1.0'?><movie/>",
        ONE,
        b"\n <?xml version='1.0'?><movie><genre>Drama</genre></movie>",
    ),
    "indentation and line endings": (
        b"<movie>\r\n\t<genre>Drama</genre>\r\n\t<year>1950</year>\r\n</movie>\r\n",
        TWO,
        b"<movie>\r\n\t<genre>Drama</genre>\r\n\t<genre>War</genre>\r\n\t<year>1950</year>\r\n</movie>\r\n",
    ),
    "no genre, after the last element": (
        b"<movie>\n  <title>A</title>\n  <!-- kept -->\n</movie>",
        ONE,
        b"<movie>\n  <title>A</title>\n  <genre>Drama</genre>\n  <!-- kept -->\n</movie>",
    ),
    "genres of other elements": (
        b"<movie><set><genre>Saga</genre></set><genre>X</genre></movie>",
        ONE,
        b"<movie><set><genre>Saga</genre></set><genre>Drama</genre></movie>",
    ),
    "a list": (
        b"<movie><genres>\n <genre>A</genre>\n</genres><plot>p</plot></movie>",
        TWO,
        b"<movie><genres>\n <genre>Drama</genre>\n <genre>War</genre>\n</genres><plot>p</plot></movie>",
    ),
    "an empty list": (
        b"<movie><genres/><plot>p</plot></movie>",
        TWO,
        b"<movie><genres/><plot>p</plot><genre>Drama</genre><genre>War</genre></movie>",
    ),
}


@pytest.mark.parametrize(("content", "values", "expected"), EDITS.values(), ids=EDITS)
def test_genres_are_written_in_place(content: bytes, values: list[str], expected: bytes) -> None:
    assert with_values(content, values) == expected
    assert read_nfo(expected).genres == tuple(values)


@pytest.mark.parametrize("inside", ["Drama<!-- mine -->", "<b>Drama</b>", "Drama<?mine?>"])
def test_a_genre_that_holds_more_than_text_is_not_overwritten(inside: str) -> None:
    content = f"<movie><genre>{inside}</genre></movie>".encode()
    with pytest.raises(NfoError, match="more than text"):
        with_values(content, ["Crime"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "windows-1252", "utf-8"])
def test_the_encoding_of_the_file_is_kept(encoding: str) -> None:
    name = encoding.removesuffix("-le").removesuffix("-be")
    text = f'<?xml version="1.0" encoding="{name}"?>\r\n<movie>\r\n  <title>Café</title>\r\n</movie>\r\nhttp://a/?b=1&c'
    content = text.encode(encoding)
    assert read_nfo(content).title == "Café"
    edited = with_values(content, ["Comédie", "Ужасы"])
    assert read_nfo(edited).genres == ("Comédie", "Ужасы")
    shown = edited.decode(encoding)
    assert shown.startswith(text[: text.index("</movie>") - 2])
    assert shown.endswith("</movie>\r\nhttp://a/?b=1&c")
    single_byte = encoding in ("iso-8859-1", "windows-1252")
    assert ("&#1059;" in shown) == single_byte  # a letter that the encoding lacks becomes a reference


def test_a_file_that_claims_utf_16_and_is_utf_8_is_read_as_utf_8() -> None:
    content = '<?xml version="1.0" encoding="utf-16"?><movie><title>Ž</title></movie>'.encode()
    assert read_nfo(content).title == "Ž"
    assert read_nfo(with_values(content, ["Č"])).genres == ("Č",)


@pytest.mark.parametrize(
    ("text", "genres"),
    [
        ("Drama / Crime", ["Drama", "Crime"]),
        ("Action/Adventure", ["Action", "Adventure"]),
        ("Drama, Crime,War", ["Drama", "Crime", "War"]),
        ("Drama|Film  Noir;", ["Drama", "Film Noir"]),
        ("  ", []),
        ("N/A", []),
        ("Unknown", []),
    ],
)
def test_several_genres_in_one_element_are_split(text: str, genres: list[str]) -> None:
    assert split_genres(text) == genres


@pytest.mark.parametrize(
    ("inside", "locked"),
    [
        ("<lockdata>true</lockdata>", "<lockdata> locks its genres"),
        ("<lockdata> True </lockdata>", "<lockdata> locks its genres"),
        ("<lockdata/>", None),
        ("<lockedfields>Name|Genres|Cast</lockedfields>", "<lockedfields> locks its genres"),
        ("<lockedfields>Name|Cast</lockedfields>", None),
        ("<lockdata>false</lockdata><lockdata>true</lockdata>", "<lockdata> locks its genres"),
    ],
)
def test_locks_are_read(inside: str, locked: str | None) -> None:
    assert read_nfo(f"<movie>{inside}</movie>".encode()).locked == locked


def test_missing_fields_are_read_from_other_elements() -> None:
    nfo = read_nfo(
        b"<movie><title/><originaltitle>A</originaltitle><premiered>1931-05-11</premiered>"
        b"<plot> </plot><outline>An  outline.\n</outline></movie>"
    )
    assert (nfo.title, nfo.year, nfo.plot) == ("A", 1931, "An outline.")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not XML"),
        (b"A release note\n\xdb\xdb\xdb", "not XML"),
        (b"<movie>\n <title>A & B</titel></movie>", "</titel> does not close <title> in line 2; fix that line"),
        (b"<?xml version='1.0' encoding='x-nothing'?><movie/>", "not XML|encoding"),
        (b"<?xml version='1.0' encoding='raw_unicode_escape'?><movie/>", "encoding .* cannot be read"),
        (b"<movie/><movie/>", "more than one film"),
        (b"<tvshow><title>A</title></tvshow>", "<tvshow>"),
        (b"https://www.themoviedb.org/movie/1\n", "only a link"),
        (b"  ___ GRP ___\nGenre: Horror & Thriller\n", "it is not XML; perhaps release notes"),
        (b"<movie>" + b" " * (4 * 2**20) + b"</movie>", "larger than"),
        (b'<!DOCTYPE movie SYSTEM "http://127.0.0.1:9/movie.dtd"><movie/>', "rejected"),
        (b'<!DOCTYPE movie [<!ENTITY e SYSTEM "file:///etc/passwd">]><movie><title>&e;</title></movie>', "rejected"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_a_reason(content: bytes, says: str) -> None:
    with pytest.raises(NfoError, match=says):
        read_nfo(content)
    with pytest.raises(NfoError, match=says):
        with_values(content, ["Drama"])


SALT = b"<movie><title>Salt &amp; Pepper</title></movie>"
BAD = {
    "a bare & in text": b"<movie>\n <title>Salt & Pepper</title>\n</movie>",
    "a bare & in an attribute": b'<movie>\n <thumb url="a?b&c"/><title>Salt &amp; Pepper</title>\n</movie>',
    "HTML entities": b"<movie>\n <title>Salt&nbsp;&amp;&#32;Pepper</title>\n</movie>",
    "an unknown entity": b"<movie>\n <title>Salt &amp; Pepper</title><plot>R&D;</plot>\n</movie>",
    "control characters": b"<movie>\n <title>Salt\x01&amp;\x0bPepper</title>\n</movie>",
    "a reference to one": b"<movie>\n <title>Salt &#x1F;&amp; Pepper</title>\n</movie>",
    "a < in text": b"<movie>\n <title>Salt &amp; Pepper</title><plot>1 < 2 <= 3</plot>\n</movie>",
    "CDATA next to it": b"<movie>\n <title><![CDATA[Salt & Pepper]]></title><plot>A & B</plot><!-- & -->\n</movie>",
    "a link before the XML": b"https://a.b/1?c=d&e=f\r\n<?xml version='1.0'?>" + SALT,
    "a comment with tags after it": SALT + b"\n<!-- made by <b>a tool</b> -->\n",
    "a mark and a line end before": b"\xef\xbb\xbf\r\n<?xml version='1.0'?>" + SALT,
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_slightly_invalid_xml_is_read_and_only_its_genres_change(content: bytes) -> None:
    assert " ".join((read_nfo(content).title or "").split()) == "Salt & Pepper"
    edited = with_values(content, ["Comedy", "Komödie"])
    assert read_nfo(edited).genres == ("Comedy", "Komödie")
    assert re.sub(rb"\s*<genre>[^<]*</genre>", b"", edited) == content
    assert with_values(with_values(edited, ["Comedy"]), ["Comedy"]) == with_values(content, ["Comedy"])


def test_bytes_of_another_encoding_are_read_as_windows_1252_and_new_genres_are_ascii() -> None:
    content = "<?xml version='1.0' encoding='utf-8'?><movie><title>Bäcker</title><genre>X</genre></movie>".encode(
        "cp1252"
    )
    nfo = read_nfo(content)
    assert (nfo.title, nfo.notes) == ("Bäcker", ("bytes that are not UTF-8 were read as Windows-1252",))
    edited = with_values(content, ["Komödie"])
    assert edited == content.replace(b"X", b"Kom&#246;die")
    mixed = content.replace(b"</title>", "–ž</title>".encode())
    assert read_nfo(mixed).title == "Bäcker–ž"


def test_tolerated_faults_are_reported_with_their_lines() -> None:
    nfo = read_nfo(b"<movie>\n<title>A &nbsp; B</title>\n<plot>C & D</plot></movie>")
    assert nfo.notes == (
        "&nbsp; in line 2 is not valid XML and was read as intended",
        "& in line 3 is not valid XML and was read as intended",
    )


def test_a_list_of_genres_as_text_is_read_and_never_changed() -> None:
    content = b"<movie><genres>Drama, War</genres></movie>"
    assert read_nfo(content).genres == ("Drama", "War")
    with pytest.raises(NfoError, match="by hand"):
        with_values(content, ["Crime"])


def test_tags_are_written_and_genres_stay() -> None:
    content = b"<movie>\n <genre>Drama</genre>\n <tag>4K</tag>\n</movie>"
    edited = with_values(content, ["4K", "Crime"], "tag")
    assert edited == b"<movie>\n <genre>Drama</genre>\n <tag>4K</tag>\n <tag>Crime</tag>\n</movie>"
    assert (read_nfo(edited).genres, read_nfo(edited).tags) == (("Drama",), ("4K", "Crime"))


def test_ids_are_read_from_the_elements_of_all_tools() -> None:
    content = b'<movie><uniqueid type="tmdb" default="true">603</uniqueid><imdbid>tt0133093</imdbid><id>7</id></movie>'
    assert read_nfo(content).ids == {"tmdb": "603", "imdb": "tt0133093"}


@pytest.mark.parametrize("plot", ["N/A", "Plot unknown", "No overview found.", "UNKNOWN", "\\N", "None."])
def test_a_placeholder_is_not_a_plot(plot: str) -> None:
    nfo = read_nfo(f"<movie><plot>{plot}</plot></movie>".encode())
    assert (nfo.plot, nfo.notes) == (None, (f"the plot {plot!r} is a placeholder",))
    assert read_nfo(f"<movie><plot>{plot}</plot><outline>A thief.</outline></movie>".encode()).plot == "A thief."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<movie>" + b"<a>" * 50_000 + b"</a>" * 50_000 + b"</movie>", None),
        (b"<movie>" + b"<genre>F</genre>" * 200_000 + b"</movie>", None),
        (b"<movie><plot>" + b"<!--" * 1_000_000, "does not start a tag"),
        (b'<movie a="' + b"<" * 4_000_000, "does not start a tag"),
        (b"<movie>" + b"&#" * 2_000_000 + b"</movie>", None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_hostile_files_are_read_in_linear_time(content: bytes, says: str | None) -> None:
    start = time.process_time()
    with pytest.raises(NfoError, match=says) if says else contextlib.nullcontext():
        edited = with_values(content, ["Drama"])
        assert read_nfo(edited).genres == ("Drama",)
    assert time.process_time() - start < 10


def test_a_new_nfo_is_read_back_and_characters_that_xml_cannot_hold_are_replaced() -> None:
    nfo = read_nfo(new_nfo("A < B & C", 1931, ["Drama", "R&B"]))
    assert (nfo.title, nfo.year, nfo.genres) == ("A < B & C", 1931, ("Drama", "R&B"))
    assert read_nfo(new_nfo("The\x01 \udce9 End", None, ["Drama"])).title == "The\ufffd \ufffd End"
