"""Compare `mmgcs data posters` with a plain loop over the same files, on this machine alone.

A server on 127.0.0.1, a process of its own, answers each request after 50 ms with a poster 342 pixels wide.
The reference is the original's loop: one request after the other, the picture decoded and saved, 0.1 s of pause. Both
are measured in turn, `--repeat` times; printed is the ratio of the medians of posters a second.

    python benchmarks/downloads.py
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import statistics
import tempfile
import time
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl
from PIL import Image

from mmgcs.datasets import PosterOptions, download_posters
from mmgcs.sample import sample_table

PAUSE = 0.1
WANTED = 20


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
    print(f"ratio {before / now:.1f} (wanted: at least {WANTED})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posters", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that the server waits")
    parser.add_argument("--rate", type=float, default=PosterOptions().rate, help="as of mmgcs data posters")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    chosen = PosterOptions(allow_private=True, rate=options.rate)
    posters(options.posters, options.latency, options.repeat, chosen)


if __name__ == "__main__":
    main()
