"""A secret that is made once."""

from __future__ import annotations

import secrets

from pulumi import Output, ResourceOptions
from pulumi.dynamic import CreateResult, DiffResult, Resource

from stacks.local.provider import Properties, Provider

BYTES = 24


class CredentialProvider(Provider):
    """Make a secret; it never changes."""

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        """Find nothing to change."""
        return DiffResult(changes=False)

    def create(self, _props: Properties) -> CreateResult:
        """Draw the secret: hexadecimal, so that no file or URL needs to quote it."""
        return CreateResult("made", {"value": secrets.token_hex(BYTES)})


class Credential(Resource, module="local", name="Credential"):
    """A random password; it is encrypted in the state and hidden in what Pulumi prints."""

    value: Output[str]

    def __init__(self, name: str, opts: ResourceOptions | None = None) -> None:
        hidden = ResourceOptions(additional_secret_outputs=["value"])
        options = ResourceOptions.merge(opts, hidden)
        super().__init__(CredentialProvider(), name, {"value": None}, options)
