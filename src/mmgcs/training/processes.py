"""Several processes that train one model, each on its share of every batch.

Data-parallel training as in Li et al. 2020 (PyTorch Distributed): every process holds the whole model, and gradients
are averaged. The first process is the one that was called; it starts the others, logs, saves and exports.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from mmgcs.errors import MmgcsError, UsageError

# A process that dies closes its connections, which the others notice at once; this is for slow exports and caches.
_PATIENCE = timedelta(hours=24)
_FAREWELL = 10.0  # seconds that a process has to say why it ended


def rank() -> int:
    """The number of this process, 0 for the first or only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def meet() -> None:
    """Wait until every process is here."""
    if distributed.is_initialized():
        distributed.all_reduce(torch.zeros(1))


@contextlib.contextmanager
def first_goes_first() -> Iterator[None]:
    """The first process runs the block alone, then the others do, and find the files that it made."""
    if rank() > 0:
        meet()
    yield
    if rank() == 0:
        meet()


def check_devices(devices: int, batch_sizes: dict[str, int]) -> None:
    """Raise UsageError where there are fewer GPUs, or films in a batch, than processes."""
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise UsageError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs; give at most that")
    for place, size in batch_sizes.items():
        if size < devices:
            raise UsageError(f"--devices {devices}: {place} is {size}, so some would have no film; give fewer devices")


@contextlib.contextmanager
def followers(devices: int, follow: Callable[..., None], arguments: tuple[Any, ...]) -> Iterator[None]:
    """Run the block as the first of `devices` processes; the others run `follow(*arguments)`.

    Args:
        devices: processes in all; with 1 nothing is started.
        follow: a function of a module, so that a new interpreter finds it.
        arguments: its arguments; they are pickled.

    Raises:
        MmgcsError: another process failed or ended; the message is its own where it had one.
    """
    if devices == 1:
        yield
        return
    context = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()
    share = max(1, threads // devices)
    with tempfile.TemporaryDirectory(prefix="mmgcs-") as folder:
        place = f"file://{Path(folder) / 'meeting'}"
        started = []
        with _without_interrupts():  # Ctrl-C is for the first process, which ends the others
            for number in range(1, devices):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_run, args=(theirs, place, number, devices, share, follow, arguments), daemon=True
                )
                process.start()
                theirs.close()
                started.append((process, ours))
        try:
            for process, pipe in started:
                # Its first word, before which there is nobody to meet.
                if process.sentinel in wait([pipe, process.sentinel]) and not pipe.poll():
                    raise MmgcsError(f"a training process ended at its start (status {process.exitcode})")
                _listen(pipe)
            torch.set_num_threads(share)
            with _group(place, 0, devices):
                yield
        except Exception as error:
            said = [message for _, pipe in started if (message := _last_words(pipe))]
            if said:
                raise MmgcsError(said[0]) from error
            lost = [process for process, _ in started if process.exitcode not in (None, 0)]
            if lost and not isinstance(error, MmgcsError):
                raise MmgcsError(
                    f"a training process ended (status {lost[0].exitcode}); the last good checkpoint is kept: go on "
                    "with --resume"
                ) from error
            raise
        else:
            for process, _ in started:
                process.join(_FAREWELL)
        finally:
            torch.set_num_threads(threads)
            for process, pipe in started:
                if process.is_alive():
                    process.kill()
                process.join()
                pipe.close()


@contextlib.contextmanager
def _group(place: str, number: int, devices: int) -> Iterator[None]:
    settings = {"LOCAL_RANK": str(number), "NODE_RANK": "0", "GLOO_SOCKET_IFNAME": "lo"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    # Gloo finds its address by the machine's name, which need not resolve; "lo" is Linux's name of the loopback.
    if not Path("/sys/class/net/lo").exists():
        os.environ.pop("GLOO_SOCKET_IFNAME")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(number)
    distributed.init_process_group(backend, init_method=place, rank=number, world_size=devices, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run(
    pipe: Connection,
    place: str,
    number: int,
    devices: int,
    threads: int,
    follow: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not os.environ.get("MMGCS_TRACEBACK"):  # what this process has to say goes through the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(threads)
    pipe.send("")
    try:
        with _group(place, number, devices):
            follow(*arguments)
    except MmgcsError as error:
        pipe.send(str(error))
        raise SystemExit(1) from error


def _listen(pipe: Connection) -> str:
    try:
        return str(pipe.recv()) if pipe.poll(_FAREWELL) else ""
    except EOFError:
        return ""


def _last_words(pipe: Connection) -> str:
    try:
        return str(pipe.recv()) if pipe.poll(2.0) else ""
    except (EOFError, OSError):
        return ""


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
