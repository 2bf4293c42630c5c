"""Stand up the topology that the stack's settings name, and export what it offers."""

from pkgutil import resolve_name

import pulumi

from stacks.settings import load

# Named, not imported: a stack loads the providers of its own topology and no others.
TOPOLOGIES = {"local": "stacks.local:LocalTopology"}

settings = load()
topology = resolve_name(TOPOLOGIES[settings.topology])(settings)
for name, value in topology.outputs.items():
    pulumi.export(name, value)
