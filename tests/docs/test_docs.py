"""The documentation's code works: every block is run in a folder with sample films, or says why it is not.

A fenced `sh` or `python` block is run as a reader would, page by page from top to bottom, in a folder that holds
`films.csv`, `posters/`, `poster.jpg`, `plot.txt`, `recipes/` and a media library `~/Films`. A server that a page
expects at 127.0.0.1:10000 is started at a free port. A block that cannot be run stands after a comment
`<!-- not run: reason -->`; its commands and options must exist all the same.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
import reference
from ports import free_port, wait_for

from mmgcs.sample import sample_films, sample_table

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SERVER = "127.0.0.1:10000"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>sh|python)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"<!-- not run:(?P<reason>(?:(?!-->).)*)-->\s*\Z", re.DOTALL)
HEREDOC = re.compile(r"<<\s*'?(\w+)'?.*?^\1$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code on a page; `reason` says why it is not run, None where it is."""

    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        marker = NOT_RUN.search(text, 0, match.start())
        code = textwrap.dedent(match["code"])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"], code, marker["reason"].strip() if marker else None))
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
    languages = set(re.findall(r"^ *```(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    # Other names of shells and of Python, and indented blocks, would pass by the tests unrun.
    assert languages <= {"sh", "python", "yaml", "json", "nginx", "ini", "sql", "text", "toml", "csv", "xml"}
    assert not re.findall(r"^    (?:mmgcs|python|pip|make|curl) .*", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_an_unknown_option_would_be_noticed() -> None:
    block = Block(ROOT / "README.md", 1, "sh", "cat x | mmgcs predict --plto x  # typo\nmmgcs data spilt x", None)
    refused = [reference.refusal(words) for words in commands_in(block)]
    assert refused == ["mmgcs predict has no option --plto", "there is no command mmgcs data spilt"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the documentation speaks of."""
    films = tmp_path / "films"
    films.mkdir()
    shutil.copy(sample_table(), films)
    shutil.copytree(sample_table().parent / "posters", films / "posters")
    shutil.copy(films / "posters" / "tt0013442.jpg", films / "poster.jpg")
    shutil.copytree(ROOT / "recipes", films / "recipes")
    (films / "plot.txt").write_text("Two detectives hunt a killer through the city's underworld.\n", encoding="utf-8")
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


# They train, or evaluate.
SLOW = {"README", "training", "train", "own-genres", "add-a-model-in-one-file"}


@pytest.mark.parametrize(
    ("server", "page"),
    [pytest.param(page, page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else []) for page in RUN],
    indirect=["server"],
)
def test_the_blocks_of_a_page_run_from_top_to_bottom(page: Path, server: str, folder: Path) -> None:
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder.parent / "home"),
        "PYTHONWARNINGS": "default",
        **api_key(page),
    }
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
