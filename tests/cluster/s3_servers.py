"""S3 servers for tests, on loopback, started and stopped by the test session.

moto is a stand-in whose conditional put is atomic. OpenStack Swift with its s3api is a real store that checks
signatures and checksums, and whose conditional put is not atomic: between them they show both kinds of
stores.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

CACHE = Path(os.environ.get("L2T_TEST_CACHE", "~/.cache/l2t-tests")).expanduser()
SWIFT = "swift==2.38.3"
KEY, SECRET = "test:tester", "testing"

SWIFT_CONF = """
[swift-hash]
swift_hash_path_prefix = l2t
swift_hash_path_suffix = tests
"""
COMMON = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
workers = 0
mount_check = false
log_address = {folder}/no-syslog
log_level = ERROR
"""
PROXY = """
[pipeline:main]
pipeline = catch_errors listing_formats bulk s3api tempauth copy slo dlo symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
"""
FILTERS = "\n".join(
    f"[filter:{name}]\nuse = egg:swift#{name}"
    for name in ("catch_errors", "listing_formats", "bulk", "copy", "slo", "dlo", "symlink")
)
BACKEND = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

# One process instead of nine calls of swift-ring-builder: argv is the folder and the ports by kind.
MAKE_RINGS = """
import json, sys
from swift.common.ring import RingBuilder
for kind, port in json.loads(sys.argv[2]).items():
    ring = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
    ring.add_dev(dict(region=1, zone=1, ip="127.0.0.1", port=port, device="d", weight=1))
    ring.rebalance()
    ring.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""


class S3Server(NamedTuple):
    """Where it listens and who may enter, as the environment variables that every AWS client reads."""

    environment: dict[str, str]


class Unavailable(Exception):
    """The server cannot be installed or started here; the message says why."""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(port: int) -> dict[str, str]:
    """The variables that lead boto3 and pyarrow to a server on loopback."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


@contextmanager
def moto() -> Iterator[S3Server]:
    """moto's server in a process of its own."""
    port = free_port()
    with _running([[sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]], [port]):
        yield S3Server(environment(port))


@contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """OpenStack Swift: proxy, account, container and object server over ``folder``.

    Raises:
        Unavailable: pip cannot install it.
    """
    bin_folder = _swift_installation()
    ports = {kind: free_port() for kind in ("proxy", "account", "container", "object")}
    _write_swift(folder, bin_folder, ports)
    commands = [[str(bin_folder / f"swift-{kind}-server"), str(folder / f"{kind}.conf")] for kind in ports]
    with _running(commands, list(ports.values()), folder / "swift.log"):
        yield S3Server(environment(ports["proxy"]))


def _swift_installation() -> Path:
    """Install Swift into an environment of its own, once per machine; its dependencies are not the
    project's."""
    home = CACHE / "swift-venv"
    ready = home / f".{SWIFT}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "swift.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be at it
        if not ready.exists():
            venv.create(home, with_pip=True, clear=True)
            done = subprocess.run(
                [home / "bin/python", "-m", "pip", "install", "-q", SWIFT], capture_output=True, text=True
            )
            if done.returncode:
                raise Unavailable(f"pip cannot install {SWIFT}: {done.stderr.strip().splitlines()[-1]}")
            ready.touch()
    return home / "bin"


def _write_swift(folder: Path, bin_folder: Path, ports: dict[str, int]) -> None:
    (folder / "devices/d").mkdir(parents=True)
    (folder / "swift.conf").write_text(SWIFT_CONF)
    for kind, port in ports.items():
        common = COMMON.format(folder=folder, port=port, user=getpass.getuser())
        rest = PROXY + FILTERS if kind == "proxy" else BACKEND.format(kind=kind)
        (folder / f"{kind}.conf").write_text(common + rest)
    rings = {kind: port for kind, port in ports.items() if kind != "proxy"}
    subprocess.run([bin_folder / "python", "-c", MAKE_RINGS, folder, json.dumps(rings)], check=True)


@contextmanager
def _running(commands: list[list[str]], ports: list[int], log: Path | None = None) -> Iterator[None]:
    """Processes for the body of a ``with``; they are up when their ports answer."""
    output = open(log, "wb") if log else subprocess.DEVNULL  # noqa: SIM115
    processes = [subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) for command in commands]
    try:
        for port in ports:
            _wait_for(port, processes)
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(port: int, processes: list[subprocess.Popen[bytes]], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ended := [process for process in processes if process.poll() is not None]:
            raise Unavailable(f"{ended[0].args} ended with {ended[0].returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Unavailable(f"nothing answers on port {port} after {seconds:.0f} s")
