"""`mmgcs data posters` and `mmgcs data glove` beside plain loops over the same files, on this machine alone.

posters: a server on 127.0.0.1, a process of its own, answers each request after 50 ms with a poster 342 pixels wide.
The reference is the original's loop: one request after the other, the picture decoded and saved, 0.1 s of pause. Both
are measured in turn, `--repeat` times; printed is the ratio of the medians of posters a second.

glove: a file of the size of `glove.6B.100d.txt` (400,000 words, 100 numbers each). The reference is a loop over its
lines that splits each and makes an array of it. Measured are the first loading, which parses the text and keeps what
it found, and a later one in a new process, which maps that into memory, once as it is and once with every number read.

    python benchmarks/downloads.py posters
    python benchmarks/downloads.py glove
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from mmgcs.datasets import PosterOptions, download_posters
from mmgcs.sample import sample_table

PAUSE = 0.1
WANTED_POSTERS, WANTED_GLOVE = 20, 10

LOOP = """
import sys, time, numpy
began = time.perf_counter()
vectors = {}
with open(sys.argv[1], encoding="utf-8") as lines:
    for line in lines:
        parts = line.split()
        vectors[parts[0]] = numpy.asarray(parts[1:], dtype="float32")
assert len(vectors) == int(sys.argv[2])
print(time.perf_counter() - began)
"""
OURS = """
import sys, time
from pathlib import Path
from mmgcs.datasets.glove import load_glove
began = time.perf_counter()
words, vectors = load_glove(Path(sys.argv[1]))
assert vectors.shape[0] == len(words) == int(sys.argv[2])
if sys.argv[3] == "all":
    vectors.sum()
print(time.perf_counter() - began)
"""


def pictures() -> list[bytes]:
    """The sample's posters as TMDB serves them: JPEG, 342 pixels wide."""
    found = []
    for path in sorted((sample_table().parent / "posters").glob("*.jpg")):
        with Image.open(path) as picture:
            out = io.BytesIO()
            picture.convert("RGB").resize((342, 513)).save(out, "JPEG", quality=90)
        found.append(out.getvalue())
    return found


def serve(latency: float, bodies: list[bytes], told: Connection) -> None:
    """Answer every path with one of `bodies` after `latency` seconds; the port goes to `told`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := (await reader.readline()).decode():
            while (await reader.readline()).strip():  # headers
                pass
            await asyncio.sleep(latency)
            body = bodies[int(request.split()[1].strip("/").removesuffix(".jpg")) % len(bodies)]
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def one_by_one(urls: list[str], folder: Path) -> float:
    """The original's loop; seconds a poster."""
    began = time.perf_counter()
    for number, url in enumerate(urls):
        with urllib.request.urlopen(url, timeout=10) as response:
            picture = Image.open(io.BytesIO(response.read())).convert("RGB")
        picture.save(folder / f"{number}.jpg", "JPEG")
        time.sleep(PAUSE)
    return (time.perf_counter() - began) / len(urls)


def ours(urls: list[str], folder: Path, options: PosterOptions) -> float:
    """`mmgcs data posters` with its defaults; seconds a poster."""
    films = pl.DataFrame({"id": [str(number) for number in range(len(urls))], "poster_url": urls})
    began = time.perf_counter()
    result = download_posters(films, folder, options)
    seconds = time.perf_counter() - began
    assert result.downloaded == len(urls), result.reasons()
    return seconds / len(urls)


def posters(count: int, latency: float, repeat: int, options: PosterOptions) -> None:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(latency, pictures(), there), daemon=True)
    server.start()
    try:
        base = f"http://127.0.0.1:{here.recv()}"
        urls = [f"{base}/{number}.jpg" for number in range(count)]
        loop, many = [], []
        for _ in range(repeat):
            with tempfile.TemporaryDirectory() as folder:
                loop.append(one_by_one(urls[: max(10, count // 20)], Path(folder)))
            with tempfile.TemporaryDirectory() as folder:
                many.append(ours(urls, Path(folder), options))
    finally:
        server.terminate()
        server.join()
    before, now = statistics.median(loop), statistics.median(many)
    print(f"{latency * 1000:.0f} ms of latency, {count:,} posters: {1 / now:.0f} a second; one by one {1 / before:.1f}")
    print(f"ratio {before / now:.1f} (wanted: at least {WANTED_POSTERS})")


def seconds(code: str, *arguments: object) -> float:
    """What a new Python that runs `code` prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return float(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ).stdout))


def glove(words: int, dimension: int, repeat: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"glove.6B.{dimension}d.txt"
        numbers = np.random.default_rng(0).normal(0, 0.4, (words, dimension)).astype(np.float32).round(5)
        table = pl.DataFrame(numbers, schema=[str(column) for column in range(dimension)])
        table.insert_column(0, pl.Series("word", [f"word{row}" for row in range(words)]))
        table.write_csv(path, separator=" ", include_header=False, float_precision=5)
        del numbers, table
        runs = []
        for _ in range(repeat):
            for kept in Path(folder).glob("*.stamp"):
                kept.unlink()
            loop = seconds(LOOP, path, words)
            runs.append((loop, *(seconds(OURS, path, words, how) for how in ("first", "later", "all"))))
    loop, first, later, read = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"{words:,} × {dimension}: loop over lines {loop:.2f} s; first {first:.2f} s, later {later:.3f} s")
    print(f"later with every number read {read:.3f} s")
    print(f"ratio first {loop / first:.1f}, later {loop / later:.0f}, read {loop / read:.0f} (wanted: {WANTED_GLOVE})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["posters", "glove"])
    parser.add_argument("--posters", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that the server waits")
    parser.add_argument("--rate", type=float, default=PosterOptions().rate, help="as of mmgcs data posters")
    parser.add_argument("--words", type=int, default=400_000)
    parser.add_argument("--dimension", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    if options.what == "posters":
        chosen = PosterOptions(allow_private=True, rate=options.rate)
        posters(options.posters, options.latency, options.repeat, chosen)
    else:
        glove(options.words, options.dimension, options.repeat)


if __name__ == "__main__":
    main()
