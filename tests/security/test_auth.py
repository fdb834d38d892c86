"""Clusters that obey anybody are not used, and keys do not travel in clear."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from cluster import auth
from cluster.errors import UserError
from datagen.engine import EngineConfig, build_engine
from tests.local_http import answering
from tests.security.heads import TOKEN, head

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:6379", True),
        ("localhost:6379", True),
        ("http://127.0.0.1:8265", True),
        ("http://[::1]:8265", True),
        ("ray://127.8.0.1:10001", True),
        ("0.0.0.0:6379", False),
        ("10.0.0.5:6379", False),
        ("localhost.example.org:6379", False),
        ("127.0.0.1.example.org:6379", False),
        ("http://127.0.0.1@example.org:8265", False),
        ("http://[::", False),
        ("http://2130706433:8265", False),
    ],
)
def test_what_is_loopback(address: str, loopback: bool) -> None:
    assert auth.is_loopback(auth.host_of(address)) == loopback


@pytest.fixture(scope="module")
def heads() -> Iterator[dict[bool, str]]:
    """Addresses of an open and of a guarded head, by whether it is guarded."""
    with ExitStack() as stack:
        found = {}
        for guarded in (False, True):
            folder = Path(tempfile.mkdtemp(prefix="l2ts-", dir="/tmp"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            found[guarded], _ = stack.enter_context(head(folder, guarded=guarded))
        yield found


# On a network the same head would have another address; here that is the one thing that is put on.
JOIN = """
import sys
from cluster import auth
from cluster.errors import UserError
from cluster.runtime import init_ray
if sys.argv[1] == "network":
    auth.is_loopback = lambda host: False
try:
    with init_ray():
        import ray
        print("joined", ray.get_runtime_context().gcs_address)
except UserError as error:
    print(error)
"""


def join(address: str, where: str, **more: str) -> str:
    """What a driver says that joins this address."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", JOIN, where], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env={**kept, "RAY_ADDRESS": address, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "HOME": "/nonexistent", **more},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_open_cluster_is_not_joined(heads: dict[bool, str]) -> None:
    said = join(heads[False], "network", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert "obeys everybody" in said and "ray get-auth-token --generate" in said
    assert auth.ALLOW_OPEN in said and "joined" not in said


def test_an_open_cluster_on_loopback_or_by_the_switch(heads: dict[bool, str]) -> None:
    assert join(heads[False], "loopback", RAY_AUTH_MODE="disabled").startswith("joined 127.0.0.1")
    switched = join(heads[False], "network", RAY_AUTH_MODE="disabled", L2T_ALLOW_UNAUTHENTICATED="1")
    assert switched.startswith("joined")


def test_a_guarded_cluster(heads: dict[bool, str]) -> None:
    assert join(heads[True], "network", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN).startswith("joined")
    said = join(heads[True], "network", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="f" * 32)
    assert "ours is not the one" in said and "RAY_AUTH_TOKEN_PATH" in said and "f" * 32 not in said


class JobServer(BaseHTTPRequestHandler):
    """Answers ``/open/api/jobs/`` as a server without tokens does, all else as guards do; remembers credentials."""

    saw: list[str]

    def do_GET(self) -> None:
        self.saw.append(self.headers.get("Authorization", ""))
        if self.path.startswith("/busy"):
            self.send_response(503)
        elif self.path.startswith("/login"):
            self.send_response(302)
            self.send_header("Location", "/open/api/jobs/")
        else:
            self.send_response(200 if self.path == "/open/api/jobs/" else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


def test_an_open_job_server_gets_no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.jobs import main

    JobServer.saw = []
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with answering(JobServer) as address:
        with monkeypatch.context() as patch:
            patch.setattr(auth, "is_loopback", lambda host: False)
            with pytest.raises(UserError, match="obeys everybody"):
                main(["--address", f"{address}/open", "datagen", "demo"])
            auth.refuse_open_jobs(address)
            auth.refuse_open_jobs(f"{address}/login")
            with pytest.raises(UserError, match=r"cannot be found out .*503"):
                auth.refuse_open_jobs(f"{address}/busy")
            with pytest.raises(UserError, match="cannot be found out"):
                auth.refuse_open_jobs("http://127.0.0.1:9")
            patch.setenv(auth.ALLOW_OPEN, "1")
            auth.refuse_open_jobs(f"{address}/open")
        auth.refuse_open_jobs(f"{address}/open")
    assert JobServer.saw == ["", "", "", ""], "asked without credentials, and on loopback not at all"


def test_keys_do_not_travel_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123")

    def build(url: str, **more: str) -> object:
        return build_engine(EngineConfig(backend="openai", base_url=url, **more))  # type: ignore[arg-type]

    with pytest.raises(UserError, match="OPENAI_API_KEY would travel unencrypted") as raised:
        build("http://verifier.example:8000/v1")
    assert "sk-0123" not in str(raised.value)
    for good in ("https://verifier.example/v1", "http://127.0.0.1:8000/v1", "http://localhost:8000/v1"):
        build(good)
    build("http://verifier.example:8000/v1", api_key_env="")
    monkeypatch.setenv(auth.ALLOW_CLEAR, "1")
    build("http://verifier.example:8000/v1")


def test_no_password_in_an_address() -> None:
    """It would be in every manifest."""
    with pytest.raises(ValueError, match="name or password"):
        EngineConfig(backend="openai", base_url="https://me:sk-0123@verifier.example/v1")
