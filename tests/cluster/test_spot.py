"""The notice of a spot machine: asked for as the clouds want it, and passed on to a Ray that runs."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from cluster.launch import spot
from tests.local_http import answering

ROOT = Path(__file__).parents[2]


class Metadata(BaseHTTPRequestHandler):
    """Both clouds' metadata service, with their manners; ``going`` is the notice."""

    going = False
    broken = 0

    def do_PUT(self) -> None:
        wanted = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200 if wanted else 400, "session")

    def do_GET(self) -> None:
        if type(self).broken:
            type(self).broken -= 1
            self._answer(503, "")
        elif self.path == "/latest/meta-data/spot/instance-action":
            if self.headers["X-aws-ec2-metadata-token"] != "session":
                self._answer(401, "")
            else:
                self._answer(
                    200 if self.going else 404, '{"action": "terminate", "time": "2026-11-21T20:00:00Z"}'
                )
        elif (
            self.path == "/computeMetadata/v1/instance/preempted"
            and self.headers["Metadata-Flavor"] == "Google"
        ):
            self._answer(200, "TRUE" if self.going else "FALSE")
        else:
            self._answer(403, "")

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    with answering(Metadata) as address:
        yield address


@pytest.mark.parametrize("cloud", sorted(spot.CLOUDS))
def test_the_notice_is_seen(cloud: str, metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = spot.CLOUDS[cloud].taken
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # never asked
    assert taken(metadata) is False
    monkeypatch.setattr(Metadata, "going", True)
    assert taken(metadata) is True
    monkeypatch.setattr(Metadata, "broken", 1)
    with pytest.raises(urllib.error.HTTPError):
        taken(metadata)


def test_a_service_that_fails_is_asked_again(metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spot, "POLL_S", 0.01)
    monkeypatch.setattr(Metadata, "going", True)
    monkeypatch.setattr(Metadata, "broken", 3)
    spot.wait_for_notice(spot.CLOUDS["gcp"], metadata)
    assert Metadata.broken == 0


SCRIPT = """
import os, subprocess, sys
from cluster.runtime import init_ray
with init_ray():
    import ray
    from ray._raylet import GcsClient

    @ray.remote(num_cpus=1)
    class Busy:  # a node without work would be gone at once
        def ready(self): return True

    busy = Busy.remote()
    ray.get(busy.ready.remote())
    address = ray.get_runtime_context().gcs_address
    watcher = [sys.executable, "-m", "cluster.launch.spot", "aws", "--metadata", os.environ["METADATA"]]
    assert subprocess.run(watcher, env={**os.environ, "RAY_ADDRESS": address}).returncode == 0
    print(len(GcsClient(address=address).get_draining_nodes()))
"""


@pytest.mark.slow
def test_ray_knows_that_the_node_goes(metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Metadata, "going", True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # `ray` of this environment
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "METADATA": metadata, "PATH": path}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"
