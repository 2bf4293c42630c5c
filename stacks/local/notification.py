"""The rules by which a server tells of what happens in a bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from pulumi import Input, Output, ResourceOptions
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from stacks.local import s3
from stacks.local.provider import Properties, Provider, gone, unchanged

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# What may change what a target should hold. Created includes new tags and removed ones; removed
# includes what the lifecycle rules of a bucket expire.
EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
KINDS = ("QueueConfigurations", "TopicConfigurations", "LambdaFunctionConfigurations")

Rule = Mapping[str, Any]


def prefix_of(stack: str) -> str:
    """Return how the identifiers of a stack's rules begin."""
    return f"tandem-{stack}-"


def wanted_rules(props: Mapping[str, Any]) -> list[Rule]:
    """Return the rules that a bucket should have from us, one for each destination."""
    return [
        {"Id": prefix_of(props["stack"]) + name, "QueueArn": arn, "Events": list(EVENTS)}
        for name, arn in sorted(props["destinations"].items())
    ]


def merged(
    found: Mapping[str, Sequence[Rule]], ours: Sequence[Rule], prefix: str
) -> dict[str, list[Rule]]:
    """Return a configuration with our rules in the place of those of ours that it had.

    Ours are those whose identifiers begin with `prefix`; the others stay as they are.
    """
    kept = {
        kind: [rule for rule in found.get(kind, ()) if not rule.get("Id", "").startswith(prefix)]
        for kind in KINDS
    }
    kept[KINDS[0]] += ours
    return {kind: rules for kind, rules in kept.items() if rules}


def destinations_of(rules: Sequence[Rule], prefix: str) -> dict[str, str]:
    """Return where our rules send, by their names; one whose events were edited counts as gone."""
    return {
        rule["Id"].removeprefix(prefix): rule["QueueArn"]
        for rule in rules
        if rule.get("Id", "").startswith(prefix) and set(rule["Events"]) == set(EVENTS)
    }


def apply(props: Mapping[str, Any], ours: Sequence[Rule]) -> None:
    """Put our rules among those that the bucket has."""
    bucket = props["bucket"]
    with s3.connect(props["server"]) as client:
        found = _configuration(client, bucket)
        asked: Any = merged(found, ours, prefix_of(props["stack"]))
        client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=asked)


def _configuration(client: S3Client, bucket: str) -> dict[str, Sequence[Rule]]:
    found: Any = client.get_bucket_notification_configuration(Bucket=bucket)
    return {kind: found.get(kind, []) for kind in KINDS}


class NotificationProvider(Provider):
    """Keep our rules in a bucket, and leave those of others alone."""

    inputs = ("server", "bucket", "stack", "destinations")
    replacing = ("bucket",)

    def create(self, props: Properties) -> CreateResult:
        """Add our rules."""
        apply(props, wanted_rules(props))
        return CreateResult(props["bucket"], dict(props))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look which of our rules are there; while the server is down nothing is known."""
        try:
            with s3.connect(props["server"]) as client:
                rules = _configuration(client, props["bucket"])[KINDS[0]]
        except s3.UNKNOWN as error:
            if isinstance(error, ClientError) and s3.is_missing(error):
                return gone()
            return unchanged(id_, props)
        found = destinations_of(rules, prefix_of(props["stack"]))
        return ReadResult(id_, {**props, "destinations": found}) if found else gone()

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        """Put our rules in the place of those of ours that are there."""
        apply(news, wanted_rules(news))
        return UpdateResult(dict(news))

    def delete(self, _id: str, props: Properties) -> None:
        """Remove our rules."""
        try:
            apply(props, [])
        except s3.DOWN:
            return  # The server is down, and its bucket goes or stays with it.
        except ClientError as error:
            if not s3.is_missing(error):
                raise


class BucketNotification(Resource, module="local", name="BucketNotification"):
    """Rules that send what happens in a bucket to each of `destinations`, ARNs by name."""

    def __init__(
        self,
        name: str,
        *,
        server: Input[Mapping[str, Input[str]]],
        bucket: Input[str],
        stack: str,
        destinations: Mapping[str, str],
        opts: ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "server": Output.secret(server),
            "bucket": bucket,
            "stack": stack,
            "destinations": dict(destinations),
        }
        super().__init__(NotificationProvider(), name, properties, opts)
