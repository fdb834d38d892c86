"""The proxy changes nothing by itself, and what it does to requests is survived by the project's storage: one fault at
a time, each at its worst moment, against moto."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from cluster import storage
from cluster.errors import UserError
from tests.chaos.proxy import Fault, FaultProxy
from tests.cluster import s3_servers
from tests.cluster.conftest import enter


@pytest.fixture(scope="module")
def server() -> Iterator[s3_servers.S3Server]:
    with s3_servers.moto() as running:
        yield running


@pytest.fixture
def proxy(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    enter(server, "proxy", monkeypatch)
    with FaultProxy(server.environment["AWS_ENDPOINT_URL"], seed=1, half_bodies=False) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


@pytest.fixture
def place() -> str:
    return f"s3://l2t-proxy/{uuid.uuid4().hex}"


def test_without_faults_it_is_not_there(proxy: FaultProxy, place: str) -> None:
    """boto3 with bodies small and large, pyarrow with many parts."""
    for size in (0, 1, 3_000_000):
        storage.write_bytes(f"{place}/{size}", b"x" * size)
        assert storage.read_bytes(f"{place}/{size}") == b"x" * size
    assert len(storage.list_prefix(place)) == 3
    filesystem, path = storage.filesystem(f"{place}/stream")
    with filesystem.open_output_stream(path) as stream:
        stream.write(b"y" * 12_000_000)
    assert storage.read_bytes(f"{place}/stream") == b"y" * 12_000_000
    assert not proxy.seen.faults


@pytest.mark.parametrize(
    "kind", ["error500", "slowdown", "reset", "cut_request", "cut_response", "lost_response"]
)
def test_an_object_is_created_once_through_it(kind: str, proxy: FaultProxy, place: str) -> None:
    """The first two answers are bad: ours counts as ours all the same, and a second writer is told that it lost."""
    proxy.faults = (Fault(kind=kind, method="PUT", times=2),)  # type: ignore[arg-type]
    assert storage.put_if_absent(f"{place}/a", b"first")
    assert proxy.seen.faults[kind] >= 1  # a status line that arrives before the cut is an answer
    assert not storage.put_if_absent(f"{place}/a", b"second")
    assert storage.read_bytes(f"{place}/a") == b"first"


@pytest.mark.parametrize("kind", ["error500", "slowdown", "reset", "cut_response"])
def test_reading_goes_on_where_it_stopped(kind: str, proxy: FaultProxy, place: str) -> None:
    data = bytes(range(256)) * 8192
    storage.write_bytes(f"{place}/a", data)
    proxy.faults = (Fault(kind=kind, method="GET", times=3),)  # type: ignore[arg-type]
    assert storage.read_bytes(f"{place}/a") == data
    assert proxy.seen.faults[kind] == 3


@pytest.mark.parametrize("keep", [0.1, 0.4, 0.6, 0.8, 0.95])
def test_an_answer_cut_anywhere_is_no_answer(keep: float, proxy: FaultProxy, place: str) -> None:
    """Also within its headers, where clients take it for whole, with an empty body."""
    storage.write_bytes(f"{place}/a", b"hello")
    proxy.faults = (Fault(kind="cut_response", method="GET", times=1, keep=keep),)
    assert storage.read_bytes(f"{place}/a") == b"hello"
    proxy.faults = (Fault(kind="cut_response", method="GET", times=1, keep=keep, path="prefix="),)
    assert storage.list_prefix(place) == [f"{place}/a"]
    assert proxy.seen.faults["cut_response"] == 2


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_answer_cut_at_any_byte_of_its_head_is_no_answer(
    method: str, proxy: FaultProxy, place: str
) -> None:
    """A date or a number of which half is there breaks the client's parser, not its connection."""
    storage.write_bytes(f"{place}/a", b"hello")
    for percent in range(4, 100, 3):
        proxy.faults = (Fault(kind="cut_response", method=method, times=1, keep=percent / 100),)
        if method == "GET":
            assert storage.read_bytes(f"{place}/a") == b"hello", percent
        else:
            assert storage.put_if_absent(f"{place}/{percent}", b"mine"), percent
        assert proxy.seen.faults["cut_response"]


def test_a_full_store_is_said_in_a_sentence(proxy: FaultProxy, place: str) -> None:
    proxy.faults = (Fault(kind="full"),)
    with pytest.raises(UserError, match="InsufficientStorage"):
        storage.write_bytes(f"{place}/a", b"x")


def test_listings_are_stale(proxy: FaultProxy, place: str) -> None:
    """The fault does what it says: the oldest answer, or none."""
    storage.write_bytes(f"{place}/a", b"x")
    assert len(storage.list_prefix(place)) == 1
    storage.write_bytes(f"{place}/b", b"x")
    proxy.faults = (Fault(kind="stale_listing", hold_s=1000),)
    assert len(storage.list_prefix(place)) == 1
    assert storage.list_prefix(f"{place}/elsewhere") == []
