"""Whether a bucket keeps the versions of its objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from stacks.local import s3
from stacks.local.provider import Properties, Provider, gone, unchanged

ENABLED: Final = "Enabled"
SUSPENDED: Final = "Suspended"


def switch_on(props: Mapping[str, Any]) -> str:
    """Turn versioning on, and return what it was: Enabled, Suspended or nothing."""
    with s3.connect(props["server"]) as client:
        found = client.get_bucket_versioning(Bucket=props["bucket"]).get("Status", "")
        client.put_bucket_versioning(
            Bucket=props["bucket"], VersioningConfiguration={"Status": ENABLED}
        )
    return found


class VersioningProvider(Provider):
    """Keep versioning on."""

    inputs = ("server", "bucket", "status")
    replacing = ("bucket",)

    def create(self, props: Properties) -> CreateResult:
        """Turn it on."""
        return CreateResult(props["bucket"], {**props, "found": switch_on(props)})

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look whether it is on; while the server is down nothing is known."""
        try:
            with s3.connect(props["server"]) as client:
                told = client.get_bucket_versioning(Bucket=props["bucket"])
        except s3.UNKNOWN as error:
            if isinstance(error, ClientError) and s3.is_missing(error):
                return gone()
            return unchanged(id_, props)
        return ReadResult(id_, {**props, "status": told.get("Status", "")})

    def update(self, _id: str, olds: Properties, news: Properties) -> UpdateResult:
        """Turn it on again."""
        switch_on(news)
        return UpdateResult({**news, "found": olds["found"]})

    def delete(self, _id: str, props: Properties) -> None:
        """Put it back as it was; S3 cannot forget versioning, so at most it is suspended."""
        if props["found"] == ENABLED:
            return
        try:
            with s3.connect(props["server"]) as client:
                client.put_bucket_versioning(
                    Bucket=props["bucket"], VersioningConfiguration={"Status": SUSPENDED}
                )
        except s3.DOWN:
            return  # The server is down, and its bucket goes or stays with it.
        except ClientError as error:
            if not s3.is_missing(error):
                raise


class BucketVersioning(Resource, module="local", name="BucketVersioning"):
    """Versioning of a bucket, turned on."""

    def __init__(
        self,
        name: str,
        *,
        server: Input[Mapping[str, Input[str]]],
        bucket: Input[str],
        opts: ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "server": Output.secret(server),
            "bucket": bucket,
            "status": ENABLED,
            "found": None,
        }
        super().__init__(VersioningProvider(), name, properties, opts)
