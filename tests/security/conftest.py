"""An S3 endpoint, and a server that must never be asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest

from tests.cluster import s3_servers
from tests.cluster.conftest import enter
from tests.local_http import answering


@dataclass
class Canary:
    """Where it listens, and every request that it saw."""

    url: str = ""
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def canary_server() -> Iterator[Canary]:
    """A web server on loopback that writes down who asks it for anything."""
    canary = Canary()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            canary.requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_HEAD = do_OPTIONS = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    with answering(Handler) as canary.url:
        yield canary


@pytest.fixture(scope="session")
def moto_server() -> Iterator[s3_servers.S3Server]:
    with s3_servers.moto() as server:
        yield server


@pytest.fixture
def moto_place(moto_server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    return enter(moto_server, "security", monkeypatch)
