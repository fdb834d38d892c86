"""One behaviour on local files, moto and Swift; and what the clients do when a store fails."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster import local_store, s3_store, storage
from cluster.errors import UserError
from tests.cluster.s3_servers import free_port


def test_objects(place: str) -> None:
    uri = storage.join(place, "a/b.bin")
    assert not storage.exists(uri)
    with pytest.raises(UserError, match=r"b\.bin.*no such.*Check the path"):
        storage.read_bytes(uri)
    storage.write_bytes(uri, b"one")
    storage.write_bytes(uri, b"two")
    assert storage.read_bytes(uri) == b"two" and storage.exists(uri)
    assert storage.list_prefix(place) == [uri]
    assert storage.list_prefix(storage.join(place, "a/b")) == []  # a folder, not the start of a name
    assert storage.sha256_of(uri) == hashlib.sha256(b"two").hexdigest()
    filesystem, path = storage.filesystem(uri)
    assert filesystem.open_input_file(path).read() == b"two"
    storage.delete(uri)
    storage.delete(uri)
    assert not storage.exists(uri) and storage.list_prefix(place) == []


def test_put_if_absent(place: str) -> None:
    uri = storage.join(place, "once")
    assert storage.put_if_absent(uri, b"mine")
    assert not storage.put_if_absent(uri, b"yours")
    assert storage.put_if_absent(uri, b"mine")  # as after an answer that got lost
    assert storage.read_bytes(uri) == b"mine"


def test_probe(place: str, atomic: bool) -> None:
    assert storage.probe_conditional_put(place) is atomic
    assert storage.list_prefix(place) == []


def test_folders(place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "model").mkdir(parents=True)
    (source / "config.yaml").write_text("a: 1")
    (source / "model/weights").write_bytes(os.urandom(3 << 20))
    uri = storage.join(place, "checkpoint")
    storage.upload_dir(source, uri)
    target = storage.download_dir(uri, tmp_path / "target")
    names = sorted(str(file.relative_to(target)) for file in target.rglob("*") if file.is_file())
    assert names == ["config.yaml", "model/weights"]
    assert (target / "model/weights").read_bytes() == (source / "model/weights").read_bytes()
    assert storage.download_dir(uri, target) == target
    with pytest.raises(UserError, match="nothing in it"):
        storage.download_dir(storage.join(place, "elsewhere"), tmp_path / "no")
    with pytest.raises(UserError, match="no such folder"):
        storage.upload_dir(tmp_path / "no", uri)


def test_several_may_fetch_the_same_folder(tmp_path: Path) -> None:
    """As the actors of one node do with a model: whoever is last takes what is there."""
    (tmp_path / "model").mkdir()
    for number in range(20):
        (tmp_path / "model" / str(number)).write_text("x" * number)
    for go in range(5):
        with ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(
                    storage.download_dir, str(tmp_path / "model"), tmp_path / f"cache{go}", replace=False
                )
                for _ in range(8)
            ]
        assert {one.result() for one in asked} == {tmp_path / f"cache{go}"}
        assert len(list((tmp_path / f"cache{go}").iterdir())) == 20
    assert not list(tmp_path.glob(".cache*"))


def test_large_upload_in_parts(moto_place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "SINGLE_PUT_BYTES", 1 << 20)
    (tmp_path / "f").mkdir()
    (tmp_path / "f/weights").write_bytes(bytes(9 << 20))
    storage.upload_dir(tmp_path / "f", moto_place)
    assert (
        storage.sha256_of(storage.join(moto_place, "weights")) == hashlib.sha256(bytes(9 << 20)).hexdigest()
    )


def test_unfinished_uploads_are_aborted(place: str) -> None:
    if place.startswith("s3://"):
        bucket, key = s3_store.split(place.removeprefix("s3://"))
        client: Any = s3_store.s3_store()._client
        client.create_multipart_upload(Bucket=bucket, Key=f"{key}/half")
    else:
        storage.write_bytes(storage.join(place, f".half.{uuid.uuid4().hex}.tmp"), b"half")
    if "l2t-moto" not in place:  # moto says that every upload began in 2010
        assert storage.abort_uploads(place, grace_seconds=3600) == 0
    assert storage.abort_uploads(place, grace_seconds=-5) == 1
    assert storage.abort_uploads(place, grace_seconds=-5) == 0


def test_unknown_kinds_of_storage() -> None:
    with pytest.raises(UserError, match="'gs' is not known"):
        storage.exists("gs://bucket/x")
    with pytest.raises(UserError, match="a bucket is missing"):
        storage.exists("s3://")
    assert storage.join("s3://b/", "/x/", "y") == "s3://b/x/y"


def test_local_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="folder"):
        storage.read_bytes(str(tmp_path))
    with pytest.raises(UserError, match="folder"):
        storage.write_bytes(str(tmp_path / "file/below"), b"")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local_store.os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        storage.write_bytes(str(tmp_path / "x"), b"")
    assert storage.list_prefix(str(tmp_path)) == [str(tmp_path / "file")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="no permission"):
        storage.write_bytes(str(tmp_path / "x"), b"")


def test_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(local_store.os, "link", refuse)
    uri = str(tmp_path / "once")
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda worker: storage.put_if_absent(uri, bytes([worker])), range(4))) >= 1
    assert storage.list_prefix(str(tmp_path)) == [uri]


def test_missing_bucket_and_dead_endpoint(moto_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no bucket 'nowhere'.*Create it"):
        storage.write_bytes("s3://nowhere/x", b"")
    monkeypatch.setattr(s3_store, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match=r"nothing answers at http://127.*Check AWS_ENDPOINT_URL"):
        storage.read_bytes("s3://bucket/x")


def test_wrong_secret(swift_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in swift_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match=r"refuses access.*Check AWS_ACCESS_KEY_ID"):
        storage.read_bytes("s3://l2t-swift/x")


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ENDPOINT_URL", "localhost:9000"), ("AWS_PROFILE", "nobody-has-this")]
)
def test_an_environment_that_no_client_can_be_made_of(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"object storage cannot be asked: .*Check AWS_ENDPOINT_URL"):
        s3_store.S3Store()


def test_a_large_upload_that_is_refused(
    moto_place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 wraps what the store says into an error of another family."""
    monkeypatch.setattr(s3_store, "SINGLE_PUT_BYTES", 1)
    (tmp_path / "large").write_bytes(b"xx")
    with pytest.raises(UserError, match="NoSuchBucket"):
        s3_store.S3Store().upload(tmp_path / "large", f"nowhere-{uuid.uuid4().hex}/a")


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in s3_store.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match="no credentials"):
        storage.read_bytes("s3://bucket/x")


def test_an_answer_that_breaks_off_is_continued(moto_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ResponseStreamingError

    data = os.urandom(3 << 20)
    uri = storage.join(moto_place, "x")
    storage.write_bytes(uri, data)
    client: Any = s3_store.s3_store()._client
    get, broken = client.get_object, []

    class Breaking:
        def __init__(self, body: Any) -> None:
            self.body = body

        def iter_chunks(self, size: int) -> Any:
            yield next(self.body.iter_chunks(size))
            raise ResponseStreamingError(error="cut")

    def get_object(**arguments: Any) -> Any:
        answer = get(**arguments)
        if len(broken) < 2:
            broken.append(arguments)
            answer["Body"] = Breaking(answer["Body"])
        return answer

    monkeypatch.setattr(client, "get_object", get_object)
    assert storage.read_bytes(uri) == data
    assert len(broken) == 2 and broken[1]["Range"] == f"bytes={1 << 20}-"


def test_a_lost_answer_to_a_conditional_put(moto_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes arrive, the answer does not, the client asks again and is refused: the object is still
    ours."""
    client: Any = s3_store.s3_store()._client
    put = client.put_object

    def put_twice(**arguments: Any) -> Any:
        put(**arguments)
        return put(**arguments)

    monkeypatch.setattr(client, "put_object", put_twice)
    assert storage.put_if_absent(storage.join(moto_place, "x"), b"mine")


def test_a_store_without_the_condition(moto_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    client: Any = s3_store.s3_store()._client
    put = client.put_object

    def put_object(**arguments: Any) -> Any:
        if "IfNoneMatch" in arguments:
            raise ClientError(
                {"Error": {"Code": "NotImplemented", "Message": "no conditions here"}}, "PutObject"
            )
        return put(**arguments)

    monkeypatch.setattr(client, "put_object", put_object)
    uri = storage.join(moto_place, "x")
    assert storage.put_if_absent(uri, b"mine") and not storage.put_if_absent(uri, b"yours")
    assert not storage.probe_conditional_put(moto_place)


def test_devices_are_never_replaced() -> None:
    for act in (lambda: storage.write_bytes("/dev/null", b"x"), lambda: storage.delete("/dev/null")):
        with pytest.raises(UserError, match="device"):
            act()
    assert Path("/dev/null").is_char_device()
