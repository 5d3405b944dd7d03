"""One branch of a loaded bundle: its preprocessing and its graph in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mmgcs.bundle import GET_AGAIN, Branch, Bundle
from mmgcs.errors import BundleError
from mmgcs.preprocess import PREPROCESSORS, Prepared, Preprocessor

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class LoadedBranch:
    """A branch with its preprocessor and graph, each created on first use: a plot needs no poster graph.

    Safe to share between threads.
    """

    def __init__(self, bundle: Bundle, spec: Branch, threads: int, *, spin: bool, once: bool) -> None:
        self.spec = spec
        self._bundle = bundle
        self._threads = threads
        self._spin, self._once = spin, once
        self._lock = Lock()
        self._sessions: dict[int, ort.InferenceSession] = {}

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """The preprocessing of the branch's input."""
        if self.spec.kind not in PREPROCESSORS:
            raise BundleError(f"the bundle needs the preprocessing {self.spec.kind!r}, unknown here; upgrade mmgcs")
        try:
            return PREPROCESSORS[self.spec.kind](self.spec.options, self._bundle.read)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            name = self.spec.name
            raise BundleError(f"the options of {name} do not fit ({error!r}); {GET_AGAIN}") from error

    @property
    def session(self) -> ort.InferenceSession:
        """The graph, on all threads."""
        return self._session(self._threads)

    def try_open(self) -> None:
        """Open the graph ahead of its first use; an error is left for that to report."""
        with suppress(BundleError):
            _ = self.session

    def _session(self, threads: int) -> ort.InferenceSession:
        with self._lock:
            if threads not in self._sessions:
                graph = self._bundle.read(self.spec.graph)
                self._sessions[threads] = open_session(
                    graph, self.spec.graph, threads, spin=self._spin, once=self._once
                )
            return self._sessions[threads]

    @cached_property
    def _alone(self) -> bool:
        # With dynamic 8-bit activations the scale depends on the whole batch, so films would change each other's
        # answers. One by one, each on its own thread, they are just as fast.
        return b"DynamicQuantizeLinear" in self._bundle.read(self.spec.graph)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # one film needs no pool

        return ThreadPoolExecutor(self._threads, thread_name_prefix="mmgcs-graph")

    def run(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Return the features (films, width) of prepared inputs."""
        if len(prepared) == 1 or not self._alone:
            return self._run(self.session, prepared)
        session = self._session(1)
        each = map if self._threads == 1 else self._pool.map
        return np.concatenate(list(each(lambda one: self._run(session, [one]), prepared)))

    def _run(self, session: ort.InferenceSession, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        # By name: a graph may have other outputs, such as attention.
        return run_graph(session, "features", self.preprocessor.collate(prepared), self.spec.width)


def open_session(
    graph: bytes, name: str, threads: int, *, spin: bool = True, once: bool = False
) -> ort.InferenceSession:
    """Open one of a bundle's graphs, the content of the file `name`, in onnxruntime on the CPU.

    Args:
        graph: the file's bytes.
        name: its name.
        threads: threads to compute it on.
        spin: let idle threads wait in a busy loop.
        once: the graph will run once or twice; do not rearrange its weights, which takes longer than it saves then.

    Raises:
        BundleError: the graph cannot be loaded.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if once:
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common public base
        line = str(error).splitlines()[0]
        raise BundleError(f"{name} cannot be loaded by onnxruntime ({line}); {GET_AGAIN}") from error


def run_graph(
    session: ort.InferenceSession, output: str, feed: Mapping[str, NDArray[Any]], width: int
) -> NDArray[np.float32]:
    """Run a graph and return one of its outputs, (films, width) float32.

    Raises:
        BundleError: the graph does not take these inputs or does not give this output.
    """
    try:
        (result,) = session.run([output], dict(feed))
    except Exception as error:  # onnxruntime's exceptions have no common public base
        line = str(error).splitlines()[0]
        raise BundleError(f"the graph of {output} cannot be run ({line}); {GET_AGAIN}") from error
    if result.ndim != 2 or result.shape[1] != width:
        raise BundleError(f"the graph of {output} gives {result.shape}, not {width} per film; {GET_AGAIN}")
    numbers: NDArray[np.float32] = result
    return numbers
