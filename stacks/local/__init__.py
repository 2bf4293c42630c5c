"""The topology `local`: everything on this machine, no account and no Docker needed."""

from stacks.local.topology import LocalTopology

__all__ = ["LocalTopology"]
