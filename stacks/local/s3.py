"""A client of one of the stack's S3 servers, for what is not the data path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError  # noqa: A004 -- its own

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 3, 60, 3


@contextmanager
def connect(server: Mapping[str, Any]) -> Iterator[S3Client]:
    """Give a client of a server: its `endpoint`, `access_key`, `secret_key` and `region`."""
    config: Any = Config(
        # Servers other than Amazon's refuse the checksums that boto3 adds by itself.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
        proxies={},
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
    )
    # A session of its own: boto3's default one must not be shared between threads.
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=server["endpoint"],
        aws_access_key_id=server["access_key"],
        aws_secret_access_key=server["secret_key"],
        region_name=server["region"],
        config=config,
    )
    try:
        yield client
    finally:
        client.close()


def code(error: ClientError) -> str:
    """Return the code of an S3 error; of a HEAD, which has no body, the HTTP status."""
    return error.response["Error"]["Code"]


def is_missing(error: ClientError) -> bool:
    """Tell whether an error means that the bucket is not there."""
    return code(error) in {"NoSuchBucket", "404"}


# What is raised while a server is down; and where nothing can be told of its buckets: somebody
# else may listen on its port.
DOWN = (ConnectionError, HTTPClientError)
UNKNOWN = (*DOWN, ClientError)
