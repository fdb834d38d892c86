"""Storage on S3 and everything that speaks its protocol.

boto3 moves whole objects, because it offers the conditional put and names its errors; pyarrow's filesystem
serves readers that want ranges and columns.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import storage_metrics
from cluster.errors import UserError
from cluster.local_store import Object

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CHUNK = 1 << 20
ATTEMPTS = 8
# One PUT is atomic and limited to 5 GiB; above this size uploads go in parts, which appear together too.
SINGLE_PUT_BYTES = 64 << 20
MISSING = ("NoSuchKey", "404", "NotFound")
REFUSED = ("PreconditionFailed", "412")
CONFLICT = ("ConditionalRequestConflict", "409", "OperationAborted")
UNSUPPORTED = ("NotImplemented", "501")
DENIED = ("AccessDenied", "403", "Forbidden", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken")
# What tells one account or endpoint from another; a change of any gets a client of its own.
SETTINGS = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
)
_creating = threading.Lock()


def s3_store() -> S3Store:
    """The store of the present environment; clients are made once and shared by all threads."""
    with _creating:
        return _store_for(tuple(os.environ.get(name) for name in SETTINGS))


@lru_cache(maxsize=8)
def _store_for(settings: tuple[str | None, ...]) -> S3Store:
    return S3Store()


def endpoint() -> str | None:
    """The endpoint the environment names, None for AWS itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


class S3Store:
    """``bucket/key`` paths on the store that the environment names."""

    def __init__(self) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        self._region = region or ("us-east-1" if endpoint() else None)
        self._endpoint = endpoint()
        self.conditional = True
        style = {"addressing_style": "path"} if self._endpoint else {}
        settings = Config(
            retries={"mode": "standard", "max_attempts": ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            s3=style,
        )
        try:
            self._client = boto3.session.Session().client(
                "s3", endpoint_url=self._endpoint, region_name=self._region, config=settings
            )
        except (BotoCoreError, ValueError) as error:
            raise UserError(
                f"object storage cannot be asked: {error}. Check AWS_ENDPOINT_URL (with http:// or https://), "
                "AWS_PROFILE and AWS_REGION."
            ) from error
        storage_metrics.watch(self._client)

    def exists(self, path: str) -> bool:
        bucket, key = split(path)
        with self._explained(path):
            return self._code(lambda: self._ask("head_object", Bucket=bucket, Key=key), MISSING) is None

    def read(self, path: str) -> bytes:
        return b"".join(self.chunks(path))

    def chunks(self, path: str) -> Iterator[bytes]:
        """Bytes of an object; an answer that breaks off is continued where it stopped, in the same
        version."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError, ResponseStreamingError

        bucket, key = split(path)
        done, etag = 0, None
        with self._explained(path):
            for attempt in range(ATTEMPTS):
                resume: dict[str, str] = {"Range": f"bytes={done}-", "IfMatch": etag} if done and etag else {}
                answer = self._ask("get_object", Bucket=bucket, Key=key, **resume)
                try:
                    _refuse_cut_head(answer)
                    etag = answer.get("ETag", etag)
                    for chunk in answer["Body"].iter_chunks(CHUNK):
                        done += len(chunk)
                        yield chunk
                    return
                except (IncompleteReadError, ResponseStreamingError, HTTPClientError):
                    if attempt + 1 == ATTEMPTS:
                        raise
                    time.sleep(0.1 * 2**attempt)

    def write(self, path: str, data: bytes) -> None:
        bucket, key = split(path)
        with self._explained(path):
            self._ask("put_object", Bucket=bucket, Key=key, Body=data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        bucket, key = split(path)

        def put(**condition: str) -> str | None:
            answers = (*REFUSED, *CONFLICT, *UNSUPPORTED)
            return self._code(
                lambda: self._ask("put_object", Bucket=bucket, Key=key, Body=data, **condition), answers
            )

        with self._explained(path):
            for attempt in range(ATTEMPTS):
                refusal = put(IfNoneMatch="*")
                if refusal is None:
                    return True
                if refusal in UNSUPPORTED:
                    # No condition on this store: look, then write; `probe_conditional_put` tells the user.
                    self.conditional = False
                    if self.exists(path):
                        return self.read(path) == data
                    put()
                    return self.read(path) == data
                if self.exists(path):
                    return self.read(path) == data
                time.sleep(0.05 * 2**attempt)  # a conflict with a writer that has not finished yet
        raise UserError(f"s3://{path}: another writer keeps this object busy; run the command again")

    def delete(self, path: str) -> None:
        bucket, key = split(path)
        with self._explained(path):
            self._ask("delete_object", Bucket=bucket, Key=key)

    def _listed(self, path: str) -> list[Object]:
        from botocore.exceptions import IncompleteReadError

        bucket, key = split(path)
        found = []
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"{key}/" if key else ""
        )
        for page in pages:
            if "IsTruncated" not in page:  # cut off within its headers, and then taken for an empty answer
                raise IncompleteReadError(actual_bytes=0, expected_bytes="a listing")
            for item in page.get("Contents", []):
                found.append(
                    Object(f"{bucket}/{item['Key']}", item["Size"], item["LastModified"].timestamp())
                )
        return found

    def list(self, path: str) -> list[Object]:
        from botocore.exceptions import IncompleteReadError

        with self._explained(path):
            for attempt in range(ATTEMPTS - 1):
                try:
                    return self._listed(path)
                except (IncompleteReadError, ValueError):  # see _ask
                    time.sleep(0.1 * 2**attempt)
            return self._listed(path)

    def download(self, path: str, local: Path) -> None:
        local.parent.mkdir(parents=True, exist_ok=True)
        with open(local, "wb") as file:
            for chunk in self.chunks(path):
                file.write(chunk)

    def upload(self, local: Path, path: str) -> None:
        if local.stat().st_size <= SINGLE_PUT_BYTES:
            self.write(path, local.read_bytes())
            return
        bucket, key = split(path)
        with self._explained(path):
            self._ask("upload_file", Filename=str(local), Bucket=bucket, Key=key)

    def abort_uploads(self, path: str, grace_seconds: float) -> int:
        bucket, key = split(path)
        aborted = 0
        with self._explained(path):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key)
            for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
                if time.time() - upload["Initiated"].timestamp() >= grace_seconds:
                    self._client.abort_multipart_upload(
                        Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    aborted += 1
        return aborted

    def filesystem(self) -> FileSystem:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        # Without a strategy pyarrow gives up after three refusals of a busy store.
        return S3FileSystem(
            endpoint_override=self._endpoint,
            region=self._region,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )

    def _ask(self, operation: str, **arguments: Any) -> Any:
        """The answer to an operation that may be asked for twice. One cut off within a header's value (a date, a
        number) raises ValueError in botocore's parser, which its own retries do not see."""
        for attempt in range(ATTEMPTS - 1):
            try:
                return getattr(self._client, operation)(**arguments)
            except ValueError:
                time.sleep(0.1 * 2**attempt)
        return getattr(self._client, operation)(**arguments)

    @staticmethod
    def _code(call: Any, expected: tuple[str, ...]) -> str | None:
        """None when ``call`` succeeds, its error code when that is one of the expected ones."""
        from botocore.exceptions import ClientError

        try:
            call()
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            if code in expected:
                return code
            raise
        return None

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """Turns what the store or its client says into what a person can do."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            EndpointConnectionError,
            NoCredentialsError,
        )

        uri, where = f"s3://{path}", self._endpoint or "AWS"
        try:
            yield
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            said = error.response["Error"].get("Message", "") or code
            if code == "NoSuchBucket":
                raise UserError(
                    f"{uri}: there is no bucket {path.split('/')[0]!r} at {where}. Create it, or correct its "
                    "name."
                ) from error
            if code in MISSING:
                raise UserError(f"{uri}: no such object at {where}. Check the path.") from error
            if code in DENIED:
                raise UserError(
                    f"{uri}: {where} refuses access ({said}). Check AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, and that this account may read and write the bucket."
                ) from error
            raise UserError(f"{uri}: {where} answered {code}: {said}") from error
        except NoCredentialsError as error:
            raise UserError(
                f"{uri}: no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)."
            ) from error
        except EndpointConnectionError as error:
            raise UserError(
                f"{uri}: nothing answers at {where}. Check AWS_ENDPOINT_URL and that the store is running."
            ) from error
        except (BotoCoreError, Boto3Error, ValueError) as error:
            # Boto3Error: what upload_file makes of all others. ValueError: see _ask.
            raise UserError(f"{uri}: no good answer from {where}: {error}") from error


def _refuse_cut_head(answer: Mapping[str, Any]) -> None:
    """An answer whose connection broke within its headers looks whole to the client, with an empty body.

    Raises:
        IncompleteReadError: none of the headers that tell the length of the body is there.
    """
    from botocore.exceptions import IncompleteReadError

    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    if "content-length" not in headers and "transfer-encoding" not in headers:
        raise IncompleteReadError(actual_bytes=0, expected_bytes="unknown")


def split(path: str) -> tuple[str, str]:
    """``bucket/a/b`` as ``("bucket", "a/b")``."""
    bucket, _, key = path.partition("/")
    return bucket, key
