"""The HTTP server of the download tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()
