"""The documentation's code works: every block is run in a folder with sample films, or says why it is not.

A fenced `sh` or `python` block is run as a reader would, page by page from top to bottom. The README, the first page
and the tutorials begin in an empty folder and say themselves where their files come from; how-to pages begin in one
that holds `films.csv`, `posters/`, `poster.jpg`, `plot.txt` and `recipes/`. Both have a media library `~/Films`. A
server that a page expects at 127.0.0.1:10000 is started at a free port. A block that cannot be run stands after a
comment `<!-- not run: reason -->`; its commands and options must exist all the same. A `text` block after a block
that is run shows lines that it prints, where `…` stands for anything and numbers may differ from machine to machine.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
import reference
from ports import free_port, wait_for

from mmgcs.sample import copy_sample, sample_films

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
INHERITED = ("LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
SERVER = "127.0.0.1:10000"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>sh|python)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"<!-- not run:(?P<reason>(?:(?!-->).)*)-->\s*\Z", re.DOTALL)
SHOWN = re.compile(r"\s*^```text\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)
HEREDOC = re.compile(r"<<\s*'?(\w+)'?.*?^\1$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code on a page; `reason` says why it is not run, None where it is.

    `prints` are the lines that the page shows of its output.
    """

    page: Path
    line: int
    language: str
    code: str
    reason: str | None
    prints: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        marker = NOT_RUN.search(text, 0, match.start())
        code = textwrap.dedent(match["code"])
        line = text.count("\n", 0, match.start()) + 1
        shown = SHOWN.match(text, match.end())
        reason = marker["reason"].strip() if marker else None
        found.append(Block(page, line, match["language"], code, reason, shown["lines"] if shown else ""))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands_in(block: Block) -> list[list[str]]:
    """The words of each command in a block of shell that begins with `mmgcs`."""
    code = HEREDOC.sub("", block.code).replace("\\\n", " ")
    found = []
    for line in code.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;<>()"):
                if words[:1] == ["mmgcs"]:
                    found.append(words)
                words = []
            else:
                words.append(word)
    return found


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.reason is not None], ids=str)
def test_a_block_that_is_not_run_says_why(block: Block) -> None:
    assert block.reason is not None
    assert len(block.reason.split()) >= 3, f"{block} does not say why it is not run"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=str)
def test_every_command_and_option_that_is_shown_exists(block: Block) -> None:
    refused = [refusal for words in commands_in(block) if (refusal := reference.refusal(words)) is not None]
    assert not refused, f"{block}: {'; '.join(refused)}"


def test_no_block_is_overlooked() -> None:
    opened = {page: len(re.findall(r"^ *```(?:sh|python)$", page.read_text("utf-8"), re.MULTILINE)) for page in PAGES}
    assert {page: sum(block.page == page for block in BLOCKS) for page in PAGES} == opened
    assert len(BLOCKS) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_is_fenced_in_a_way_that_is_run(page: Path) -> None:
    written = reference.PLACE.sub("", page.read_text(encoding="utf-8"))  # generated parts are not run
    languages = set(re.findall(r"^ *```(.+)$", written, re.MULTILINE))
    # Other names of shells and of Python, and indented blocks, would pass by the tests unrun.
    assert languages <= {"sh", "python", "yaml", "json", "nginx", "ini", "sql", "text", "toml", "csv", "xml"}
    assert not re.findall(r"^    (?:mmgcs|python|pip|make|curl) .*", written, re.MULTILINE)


def test_an_unknown_option_would_be_noticed() -> None:
    block = Block(ROOT / "README.md", 1, "sh", "cat x | mmgcs predict --plto x  # typo\nmmgcs data spilt x", None)
    refused = [reference.refusal(words) for words in commands_in(block)]
    assert refused == ["mmgcs predict has no option --plto", "there is no command mmgcs data spilt"]


def pattern_of(shown: str) -> re.Pattern[str]:
    """What output must hold to have the lines that a page shows."""
    lines = [re.escape(plain(line)).replace("…", ".*") for line in shown.splitlines() if line.strip(" …")]
    return re.compile(".*".join(lines), re.DOTALL)


def plain(output: str) -> str:
    """Output without what differs from one machine to another: numbers, bars, and the width of columns."""
    return re.sub(r"[\s█·]+", " ", re.sub(r"\d+(?:\.\d+)?", "0", output)).strip()


def test_other_output_than_a_page_shows_would_be_noticed() -> None:
    shown = "* Horror  94%  ██··\n…\nUndecided: Drama."
    assert pattern_of(shown).search(plain("* Horror  93%  █···\n  Crime 2%\n\nUndecided: Drama.\n"))
    assert not pattern_of(shown).search(plain("* Comedy  94%  ██··\n\nUndecided: Drama.\n"))
    assert not pattern_of(shown).search(plain("Undecided: Drama.\n* Horror  94%  ██··\n"))


BRING_THEIR_FILES = {ROOT / "README.md", ROOT / "docs" / "index.md", *(ROOT / "docs" / "tutorial").glob("*.md")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that a page begins in: empty but for what its reader is known to have."""
    films = tmp_path / "films"
    films.mkdir()
    for film in [film for film in sample_films() if film.plot and isinstance(film.poster, Path)][:6]:
        assert isinstance(film.poster, Path)
        place = tmp_path / "home" / "Films" / f"{film.title} ({film.year})"
        place.mkdir(parents=True)
        fields = {"title": film.title or "", "plot": film.plot or ""}
        inner = "".join(f"  <{name}>{escape(text)}</{name}>\n" for name, text in fields.items())
        nfo = f"<movie>\n{inner}</movie>\n"
        (place / "movie.nfo").write_text(nfo, encoding="utf-8")
        shutil.copy(film.poster, place / "poster.jpg")
    return films


def api_key(page: Path) -> dict[str, str]:
    """The key that a page's server asks for and its reader has, where the page uses one."""
    return {"MMGCS_API_KEY": "a-key"} if "$MMGCS_API_KEY" in page.read_text(encoding="utf-8") else {}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a running `mmgcs serve` where the page has one, else an address where nothing answers."""
    if SERVER not in request.param.read_text(encoding="utf-8"):
        yield SERVER
        return
    port = free_port()
    command = [sys.executable, "-m", "mmgcs", "serve", "--port", str(port)]
    environment = {**os.environ, **api_key(request.param)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            wait_for(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


RUN = [page for page in PAGES if any(block.page == page and block.reason is None for block in BLOCKS)]


QUICK = ("index",)
"""Pages that the quick tests run; the others take many minutes together."""


@pytest.mark.parametrize(
    ("server", "page"),
    [pytest.param(page, page, id=page.stem, marks=[] if page.stem in QUICK else [pytest.mark.slow]) for page in RUN],
    indirect=["server"],
)
def test_the_blocks_of_a_page_run_from_top_to_bottom(page: Path, server: str, folder: Path) -> None:
    environment = {
        **{name: os.environ[name] for name in INHERITED if name in os.environ},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder.parent / "home"),
        "PYTHONWARNINGS": "default",
        **api_key(page),
    }
    if page not in BRING_THEIR_FILES:
        copy_sample(folder)
        shutil.copytree(ROOT / "recipes", folder / "recipes")
    for block in blocks_of(page):
        if block.reason is not None:
            continue
        code = block.code.replace(SERVER, server)
        if block.language == "sh" and "curl " in code and shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        start = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*start, code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, (
            f"{block} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
        printed = plain(done.stdout + done.stderr)
        assert pattern_of(block.prints).search(printed), f"{block} prints other lines than the page shows:\n{printed}"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "index.md"], ids=lambda page: page.stem)
def test_a_newcomer_is_told_where_the_repository_is(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"git clone {project['urls']['Documentation']}\n" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "tutorial").glob("*.md")), ids=lambda page: page.stem)
def test_every_tutorial_says_how_to_install(page: Path) -> None:
    assert "](../index.md#install)" in page.read_text(encoding="utf-8")
