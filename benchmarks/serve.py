"""Compare the speed of `mmgcs serve` with bare onnxruntime. Prints ratios, each with its target.

    python benchmarks/serve.py [--seconds 20] [--model DIR]

The server is a separate process, started here. What is compared is measured alternately in the same run, so that a busy
machine slows both. The load comes from one thread with prebuilt requests on connections that stay open, and shares the
cores with the server. The plots are those of the sample.

- Concurrency 1: the p50 of /predict over the p50 of the bare call (plot graph and fusion graph) on the same tokens.
- Concurrency 16: requests a second over the films a second that the bare sessions do in batches of 16.
- The original: /predict over a re-creation of its handler, which unpickled tokenizer and PyTorch model for each
  request, here those of all-MiniLM-L6-v2, a small encoder. Plots are padded to 200 tokens, as the original's were.
  Without HTTP, which favours it.
- Processor time of a film in both, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

import mmgcs
from mmgcs.film import Film
from mmgcs.machine import cores
from mmgcs.models.transformer import resolve_source
from mmgcs.runtime import Classifier
from mmgcs.sample import sample_films

CLIENTS = 16


@contextlib.contextmanager
def server(model: Path | None, **environment: str) -> Iterator[tuple[int, int]]:
    """`mmgcs serve` as a process. Yields its port and process id; its end must be orderly."""
    command = [sys.executable, "-m", "mmgcs", "serve", "--port", "0", *(["--model", str(model)] if model else [])]
    with tempfile.NamedTemporaryFile("w+") as handle:
        log = Path(handle.name)
        process = subprocess.Popen(command, stderr=handle, env={**os.environ, "MMGCS_DRAIN": "0", **environment})
        try:
            while not (found := re.search(r"http://[^/]*:(\d+)/", log.read_text())):
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.05)
            yield int(found[1]), process.pid
            process.send_signal(signal.SIGTERM)
            if (status := process.wait(timeout=60)) != 0:
                raise SystemExit(f"the server ended with status {status}")
        finally:
            process.kill()
            process.wait()


def post(path: str, value: object) -> bytes:
    body = json.dumps(value).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"  # noqa: E501
    return head.encode() + body


class Client:
    """One connection that stays open; sends a prebuilt request and knows when its answer is whole."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = 0.0
        self._buffer = b""

    def send(self, request: bytes) -> None:
        self._buffer = b""
        self.since = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what is there. Returns whether the answer is whole."""
        self._buffer += self.socket.recv(65_536)
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n", 1)[0])
        if len(body) >= length and not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"an answer that is no 200: {self._buffer[:300]!r}")
        return len(body) >= length

    def ask(self, request: bytes) -> float:
        self.send(request)
        while not self.receive():
            pass
        return time.perf_counter() - self.since


def load(port: int, requests: list[bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
    """Keep `clients` requests under way. Returns answers a second and the latencies."""
    latencies: list[float] = []
    with selectors.EpollSelector() as selector:
        open_clients = [Client(port) for _ in range(clients)]
        began = time.perf_counter()
        for index, client in enumerate(open_clients):
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.send(requests[index % len(requests)])
        turn = clients
        while time.perf_counter() - began < seconds:
            for key, _ in selector.select():
                client = key.data
                if client.receive():
                    latencies.append(time.perf_counter() - client.since)
                    client.send(requests[turn % len(requests)])
                    turn += 1
        passed = time.perf_counter() - began
        for client in open_clients:
            client.socket.close()
    return len(latencies) / passed, latencies


class Bare:
    """The bundle's graphs in onnxruntime, nothing around them."""

    def __init__(self, classifier: Classifier, plots: list[str]) -> None:
        bundle = classifier.bundle
        self.branch = next(branch for branch in classifier._branches if branch.spec.input == "plot")
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores()
        options.log_severity_level = 3
        self.plot = ort.InferenceSession(bundle.read(self.branch.spec.graph), options)
        self.fusion = ort.InferenceSession(bundle.read(bundle.config.fusion), options)
        prepared = [self.branch.preprocessor.prepare([Film(plot=plot)])[0] for plot in plots]
        self.single = [self.branch.preprocessor.collate([item]) for item in prepared]
        ready = sorted(prepared, key=lambda item: item.length)
        rows = [ready[at : at + CLIENTS] for at in range(0, len(ready) - CLIENTS + 1, CLIENTS)]
        self.batches = [self.branch.preprocessor.collate(batch) for batch in rows]
        self.widths = {branch.spec.name: branch.spec.width for branch in classifier._branches}

    def run(self, tokens: dict[str, Any]) -> None:
        (features,) = self.plot.run(["features"], tokens)
        count = len(features)
        values = {name: np.zeros((count, width), np.float32) for name, width in self.widths.items()}
        values[self.branch.spec.name] = features
        present = np.array([[name == self.branch.spec.name for name in self.widths]] * count, np.float32)
        self.fusion.run(None, {**values, "present": present})

    def per_second(self, seconds: float) -> float:
        began, films, turn = time.perf_counter(), 0, 0
        while time.perf_counter() - began < seconds:
            self.run(self.batches[turn % len(self.batches)])
            films += CLIENTS
            turn += 1
        return films / (time.perf_counter() - began)


class Original:
    """A handler as the original's was: tokenizer and model are unpickled for each request.

    Only files that it has just written itself are unpickled: that is what is measured, and nothing of mmgcs does it.
    """

    def __init__(self, folder: Path, genres: tuple[str, ...]) -> None:
        source = resolve_source("all-MiniLM-L6-v2")
        self.genres, self.tokenizer, self.model = genres, folder / "tokenizer.pickle", folder / "model.pt"
        self.tokenizer.write_bytes(pickle.dumps(AutoTokenizer.from_pretrained(source)))
        torch.save(nn.ModuleList([AutoModel.from_pretrained(source).eval(), nn.Linear(384, len(genres))]), self.model)

    def predict(self, plot: str) -> list[str]:
        tokenizer = pickle.loads(self.tokenizer.read_bytes())
        encoder, head = torch.load(self.model, weights_only=False)
        tokens = tokenizer([plot], truncation=True, padding="max_length", max_length=200, return_tensors="pt")
        with torch.no_grad():
            logits = head(encoder(**tokens).last_hidden_state.mean(1))
        return [self.genres[index] for index in logits[0].topk(3).indices]


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has taken, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(what: str, ours: str, reference: str, ratio: float, target: str) -> None:
    print(f"{what:<50} {ours:>12} {reference:>12} {ratio:>8.2f}   target {target}", flush=True)


def compare(port: int, pid: int, classifier: Classifier, seconds: float) -> None:
    plots = [film.plot for film in sample_films() if film.plot]
    requests = [post("/predict", {"plot": plot}) for plot in plots]
    bare, client = Bare(classifier, plots), Client(port)
    for request, tokens in zip(requests, bare.single, strict=True):
        client.ask(request)
        bare.run(tokens)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {cores()} cores")
    print(f"{'':<50} {'ours':>12} {'reference':>12} {'ratio':>8}")

    ours, reference = [], []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        # All plots at a turn: idle threads of a bare session turn in circles for a while, on the server's cores.
        ours += [client.ask(request) for request in requests]
        reference += [timed(lambda at=tokens: bare.run(at)) for tokens in bare.single]
    one = statistics.median(ours)
    ratio = one / statistics.median(reference)
    show(
        "concurrency 1: p50 of /predict / bare call",
        f"{one * 1e3:.2f} ms",
        f"{statistics.median(reference) * 1e3:.2f} ms",
        ratio,
        "≤ 1.6",
    )

    load(port, requests, CLIENTS, 1)
    bare.per_second(1)
    rates, latencies, spent = [], [], []
    for _ in range(max(3, round(seconds / 4))):
        before = processor_time(pid)
        rate, seen = load(port, requests, CLIENTS, 2)
        after = processor_time(pid)
        began = time.process_time()
        rates.append((rate, bare.per_second(2)))
        spent.append(((after - before) / len(seen), (time.process_time() - began) / (2 * rates[-1][1])))
        latencies += seen
    show(
        "concurrency 16: /predict / bare batches of 16",
        f"{statistics.median(pair[0] for pair in rates):.0f} /s",
        f"{statistics.median(pair[1] for pair in rates):.0f} /s",
        statistics.median(pair[0] / pair[1] for pair in rates),
        "≥ 0.8",
    )
    p50, p99 = np.percentile(latencies, [50, 99])
    mine, theirs = (statistics.median(pair[side] for pair in spent) for side in (0, 1))
    show(
        "concurrency 16: processor time of a film",
        f"{mine * 1e3:.2f} ms",
        f"{theirs * 1e3:.2f} ms",
        mine / theirs,
        "≤ 1.25 (the same as ≥ 0.8)",
    )
    show("concurrency 16: p99 / p50", f"{p99 * 1e3:.1f} ms", f"{p50 * 1e3:.1f} ms", p99 / p50, "< 8")

    many = statistics.median(pair[0] for pair in rates)
    with tempfile.TemporaryDirectory() as folder:
        original = Original(Path(folder), classifier.genres)
        compare_with_original(client, requests[0], pid, many, lambda: original.predict(plots[0]))


def compare_with_original(client: Client, request: bytes, pid: int, many: float, work: Callable[[], object]) -> None:
    """Compare single requests, in turns, and our `many` requests a second with the original handler's work."""
    name, target = "the original", "≥ 20"
    work()
    before, began = processor_time(pid), time.process_time()
    pairs = [(client.ask(request), timed(work)) for _ in range(30)]
    spent_there, spent_here = processor_time(pid) - before, time.process_time() - began
    mine, theirs = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    show(f"{name}: latency / ours", f"{mine * 1e3:.2f} ms", f"{theirs * 1e3:.1f} ms", theirs / mine, target)
    show(
        f"{name}: processor time / ours",
        f"{spent_there / len(pairs) * 1e3:.2f} ms",
        f"{spent_here / len(pairs) * 1e3:.1f} ms",
        spent_here / spent_there,
        target,
    )
    show(f"{name}: our throughput / its", f"{many:.0f} /s", f"{1 / theirs:.1f} /s", many * theirs, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a bundle's folder; the shipped one without it")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each comparison lasts")
    given = parser.parse_args()
    with server(given.model) as (port, pid):
        compare(port, pid, mmgcs.load(given.model), given.seconds)


if __name__ == "__main__":
    main()
