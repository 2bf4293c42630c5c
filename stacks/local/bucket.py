"""A bucket on one of the stack's servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from stacks.local import s3
from stacks.local.provider import Properties, Provider, gone, unchanged, warn

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

OWNER_TAG = "tandem:stack"
TAKEN = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


class BucketTaken(Exception):
    """Report a bucket that is there already and belongs to somebody else."""


def obtain(client: S3Client, props: Mapping[str, Any]) -> bool:
    """Create a bucket, or adopt it; return whether it was adopted.

    The bucket is tagged with the stack's name, by which an interrupted `up` knows it again; one
    that was cut short before the tag left a blank bucket, in which nobody has anything to lose.
    Raises BucketTaken if it is there, is not this stack's, and may not be adopted.
    """
    bucket, stack = props["bucket"], props["stack"]
    try:
        client.create_bucket(Bucket=bucket)
    except ClientError as error:
        if s3.code(error) not in TAKEN:
            raise
        tags = _tags(client, bucket)
        if tags.get(OWNER_TAG) == stack:
            return False
        if props["adopt"]:
            return True
        if tags or not _is_empty(client, bucket):
            raise BucketTaken(
                f"the bucket {bucket} of the site {props['site']} is there already, and not made "
                f"by the stack {stack}: to use it as it is, set sites.{props['site']}.adopt to "
                "true (it is then never deleted); or else name another under "
                f"sites.{props['site']}.bucket"
            ) from None
    client.put_bucket_tagging(
        Bucket=bucket, Tagging={"TagSet": [{"Key": OWNER_TAG, "Value": stack}]}
    )
    return False


def _tags(client: S3Client, bucket: str) -> dict[str, str]:
    try:
        found = client.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except ClientError as error:
        if s3.code(error) == "NoSuchTagSet":
            return {}
        raise
    return {tag["Key"]: tag["Value"] for tag in found}


def _is_empty(client: S3Client, bucket: str) -> bool:
    """Tell whether a bucket holds no version of anything."""
    found = client.list_object_versions(Bucket=bucket, MaxKeys=1)
    return not found.get("Versions") and not found.get("DeleteMarkers")


def empty(client: S3Client, bucket: str) -> None:
    """Delete every version, every delete marker and every unfinished upload of a bucket.

    Raises RuntimeError if the server refuses to delete one.
    """
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        doomed: list[ObjectIdentifierTypeDef] = [
            {"Key": each["Key"], "VersionId": each["VersionId"]}
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        ]
        if not doomed:
            continue
        told = client.delete_objects(Bucket=bucket, Delete={"Objects": doomed, "Quiet": True})
        if refused := told.get("Errors"):
            raise RuntimeError(f"{bucket} cannot be emptied: {refused[0]}")
    for uploads in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in uploads.get("Uploads", ()):
            client.abort_multipart_upload(
                Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )


def discard(client: S3Client, bucket: str, *, forced: bool) -> bool:
    """Delete a bucket, with all that it holds if `forced`; return whether it is gone."""
    try:
        if forced:
            empty(client, bucket)
        client.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if s3.code(error) == "BucketNotEmpty":
            return False
        if not s3.is_missing(error):
            raise
    return True


class BucketProvider(Provider):
    """Create a bucket or adopt one; delete it if it is ours and nothing is lost by it."""

    inputs = ("server", "host", "bucket", "site", "stack", "adopt", "forced")
    replacing = ("host", "bucket")

    def create(self, props: Properties) -> CreateResult:
        """Create the bucket, or adopt it."""
        with s3.connect(props["server"]) as client:
            adopted = obtain(client, props)
        return CreateResult(props["bucket"], {**props, "adopted": adopted})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look whether the bucket is there; while its server is down nothing is known."""
        try:
            with s3.connect(props["server"]) as client:
                client.head_bucket(Bucket=props["bucket"])
        except s3.UNKNOWN as error:
            if isinstance(error, ClientError) and s3.is_missing(error):
                return gone()
        return unchanged(id_, props)

    def update(self, _id: str, olds: Properties, news: Properties) -> UpdateResult:
        """Remember the new settings; whose the bucket is does not change."""
        return UpdateResult({**news, "adopted": olds["adopted"]})

    def delete(self, _id: str, props: Properties) -> None:
        """Delete the bucket, unless it was adopted or holds what must not be lost."""
        bucket, host = props["bucket"], props["host"]
        if props["adopted"]:
            warn(f"the bucket {bucket} on {host} was there before this stack, and stays")
            return
        try:
            with s3.connect(props["server"]) as client:
                deleted = discard(client, bucket, forced=props["forced"])
        except s3.DOWN:
            warn(f"{host} does not answer: what becomes of {bucket} is decided with its folder")
            return
        if not deleted:
            warn(
                f"the bucket {bucket} on {host} is not empty, and is kept. To have it deleted, "
                f"set forceDestroy to true, `up`, and then `destroy`"
            )


class Bucket(Resource, module="local", name="Bucket"):
    """A bucket. `server` says how to reach it, `host` is the name of the server that has it.

    One that is there already and is not this stack's is adopted if `adopt`, and an error if not.
    On destroy an adopted bucket always stays, and one that holds objects does unless `forced`.
    """

    bucket: Output[str]
    adopted: Output[bool]

    def __init__(
        self,
        name: str,
        *,
        server: Input[Mapping[str, Input[str]]],
        host: str,
        bucket: str,
        site: str,
        stack: str,
        adopt: bool,
        forced: bool,
        opts: ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "server": Output.secret(server),
            "host": host,
            "bucket": bucket,
            "site": site,
            "stack": stack,
            "adopt": adopt,
            "forced": forced,
            "adopted": None,
        }
        super().__init__(BucketProvider(), name, properties, opts)
