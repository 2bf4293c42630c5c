"""Emptying and deleting a bucket through boto3, which is not on the data path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tandem.cli.stack import Refused
from tandem.settings import Site

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class Emptying:
    """Empty one bucket. Every method raises `Refused` with what the server said."""

    def __init__(self, site: Site) -> None:
        self.bucket = site.bucket
        config: Any = Config(
            # The newer default, checksums on everything, is refused by S3-compatible servers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": 5},
        )
        self.client: S3Client = boto3.client(
            "s3",
            endpoint_url=site.endpoint,
            aws_access_key_id=site.access_key,
            aws_secret_access_key=site.secret_key,
            region_name=site.region,
            config=config,
        )

    def count(self) -> dict[str, int]:
        """Return how many versions, delete markers and unfinished uploads there are."""
        return self._run(delete=False)

    def run(self) -> dict[str, int]:
        """Delete everything, then the bucket; return the same counts of what was deleted."""
        return self._run(delete=True)

    def _run(self, *, delete: bool) -> dict[str, int]:
        counts: Counter[str] = Counter(versions=0, delete_markers=0, uploads=0)
        try:
            for versions, markers in self._pages():
                counts.update(versions=len(versions), delete_markers=len(markers))
                if delete:
                    self._delete(versions + markers)
            for upload in self._uploads():
                counts["uploads"] += 1
                if delete:
                    self.client.abort_multipart_upload(Bucket=self.bucket, **upload)
            if delete:
                self.client.delete_bucket(Bucket=self.bucket)
        except (ClientError, BotoCoreError) as error:
            raise Refused(f"{self.bucket}: {error}") from error
        return dict(counts)

    def _pages(self) -> Iterator[tuple[list[Any], list[Any]]]:
        """Yield at most 1,000 versions and markers at a time, which is what one delete takes."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        for page in pages:
            yield (
                [_named(one) for one in page.get("Versions", ())],
                [_named(one) for one in page.get("DeleteMarkers", ())],
            )

    def _delete(self, objects: list[Any]) -> None:
        # XML, in which many are deleted at once, cannot say every key.
        odd = [one for one in objects if any(char < " " for char in one["Key"])]
        for one in odd:
            self.client.delete_object(Bucket=self.bucket, **one)
        plain = [one for one in objects if one not in odd]
        if not plain:
            return
        answer = self.client.delete_objects(
            Bucket=self.bucket, Delete={"Objects": plain, "Quiet": True}
        )
        for refusal in answer.get("Errors", ()):
            raise Refused(
                f"{self.bucket} was not emptied: {refusal.get('Key')!r}: "
                f"{refusal.get('Code')}: {refusal.get('Message')}"
            )

    def _uploads(self) -> Iterator[Any]:
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        for page in pages:
            for upload in page.get("Uploads", ()):
                yield {"Key": upload["Key"], "UploadId": upload["UploadId"]}


def _named(one: Any) -> dict[str, str]:
    return {"Key": one["Key"], "VersionId": one["VersionId"]}
