"""Places to keep data: every storage and dataset test runs on local files, on moto and on Swift."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import s3_servers


@pytest.fixture(scope="session")
def moto_server() -> Iterator[s3_servers.S3Server]:
    with s3_servers.moto() as server:
        yield server


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.S3Server]:
    try:
        with s3_servers.swift(tmp_path_factory.mktemp("swift")) as server:
            yield server
    except s3_servers.Unavailable as reason:
        pytest.skip(str(reason))


def enter(server: s3_servers.S3Server, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point the environment at a server and return a prefix nobody has used yet."""
    import boto3

    for variable, value in server.environment.items():
        monkeypatch.setenv(variable, value)
    bucket = f"l2t-{name}"
    client = boto3.client("s3", endpoint_url=server.environment["AWS_ENDPOINT_URL"])
    if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    return f"s3://{bucket}/{uuid.uuid4().hex}"


@pytest.fixture
def moto_place(moto_server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    return enter(moto_server, "moto", monkeypatch)


@pytest.fixture(params=["local", "moto", "swift"])
def place(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URI to work below."""
    if request.param == "local":
        return str(tmp_path / "store")
    return enter(request.getfixturevalue(f"{request.param}_server"), request.param, monkeypatch)


@pytest.fixture
def atomic(place: str) -> bool:
    """Whether exactly one of several writers wins at this place; Swift does not promise it."""
    return "l2t-swift" not in place
