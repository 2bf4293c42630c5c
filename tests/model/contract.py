"""The contract's sentences, as checks: some after every write, the rest when all is quiet.

It knows what clients did, from the clients themselves, and what the sites hold, from the sites
themselves; of what the replicator thinks, it knows nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tandem.decision import own_metadata
from tandem.rule import Rule
from tandem.stores.memory import MemoryStore
from tests.model.network import Request


@dataclass(frozen=True, slots=True)
class Shown:
    """Hold what a reader sees under a key, but for the tags, which may come a little later."""

    body: bytes
    headers: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str], ...]


def shown(store: MemoryStore, key: str) -> Shown | None:
    """Return what a store shows under `key`, None if nothing."""
    version = store._bucket.current(key)
    if version is None or version.body is None:
        return None
    return Shown(
        version.body,
        tuple(sorted(version.state.headers.items())),
        tuple(sorted(own_metadata(version.state.metadata).items())),
    )


def tags(store: MemoryStore, key: str) -> dict[str, str]:
    """Return the tags of what a store shows under `key`."""
    version = store._bucket.current(key)
    return dict(version.tags) if version else {}


class Contract:
    """Hold the replicator to its promise."""

    def __init__(self, sites: Mapping[str, MemoryStore], rules: Sequence[Rule]) -> None:
        self._sites = sites
        self._rules = rules
        # What was made under a key of a source since all was quiet, and which keys were deleted.
        self._made: defaultdict[tuple[str, str], set[Shown]] = defaultdict(set)
        self._deleted: set[tuple[str, str]] = set()
        # What others than Tandem put at a target.
        self._foreign: dict[tuple[str, str], Shown] = {}

    def client_wrote(self, site: str, key: str) -> None:
        """Take note of what a client has put at a source."""
        state = shown(self._sites[site], key)
        if state:
            self._made[site, key].add(state)

    def client_deleted(self, site: str, key: str) -> None:
        """Take note that a client has deleted a key at a source."""
        self._deleted.add((site, key))

    def stranger_wrote(self, site: str, key: str) -> None:
        """Take note of what somebody has done at a target."""
        state = shown(self._sites[site], key)
        if state:
            self._foreign[site, key] = state
        else:
            self._foreign.pop((site, key), None)

    def written(self, request: Request, before: Shown | None) -> None:
        """Check what a request of Tandem has done to its key, which showed `before`."""
        site, key = request.site, request.key
        origins = self.origins(site, key)
        assert origins, f"{request} touches what no rule covers"
        if request.operation in ("put", "complete_upload"):
            self._foreign.pop((site, key), None)  # it is ours from now on
        after = shown(self._sites[site], key)
        if after == before:
            return
        # Others may have this site for their source.
        if after is None:
            self._deleted.add((site, key))
        else:
            self._made[site, key].add(after)
        if after is None:
            assert any(origin in self._deleted for origin in origins), (
                f"{request} deletes what no source deleted"
            )
            assert (site, key) not in self._foreign, f"{request} deletes what Tandem did not write"
        else:
            assert any(after in self._made[origin] for origin in origins), (
                f"{request} shows what the source never was: {after}"
            )

    def check(self, but: Iterable[tuple[str, str]] = ()) -> None:
        """Check that both sides are equal; `but` names sources and keys that none told of."""
        unheard = set(but)
        for rule in self._rules:
            for target in rule.targets:
                for key in self._covered(rule, target):
                    blind = {(rule.source, key)} | ({(target, key)} if rule.two_way else set())
                    if not blind & unheard:
                        self._check_pair(rule, target, key)
        for (site, key), state in self._foreign.items():
            if not any(self._made[origin] for origin in self.origins(site, key)):
                now = shown(self._sites[site], key)
                assert now == state, f"{site}:{key}, which is not ours, has become {now}"

    def rest(self) -> None:
        """Take note that all is quiet and equal: from here on, only what comes now counts."""
        self._deleted.clear()
        for site, key in list(self._made):
            now = {shown(store, key) for store in self._sites.values()}
            self._made[site, key] = {state for state in now if state}

    def _covered(self, rule: Rule, target: str) -> list[str]:
        sides = (self._sites[rule.source], self._sites[target])
        keys = {key for side in sides for key, _ in side._bucket.objects()}
        return sorted(key for key in keys if rule.covers(key))

    def origins(self, site: str, key: str) -> tuple[tuple[str, str], ...]:
        """Return the site and key of each source of a key at a target."""
        return tuple(
            (rule.source, key) for rule in self._rules if site in rule.targets and rule.covers(key)
        )

    def _check_pair(self, rule: Rule, target: str, key: str) -> None:
        there, here = self._sites[rule.source], self._sites[target]
        want, have = shown(there, key), shown(here, key)
        if want is None and have is not None:
            kept = rule.deletes == "keep" and have in self._made[rule.source, key]
            foreign = rule.ownership == "tandem" and have == self._foreign.get((target, key))
            assert kept or foreign, f"{rule.source}:{key} is gone, {target} still has {have}"
            return
        assert want == have, f"{rule.source}:{key} is {want}, and {target} has {have}"
        if rule.tags and here.capabilities.tags:
            wanted, had = tags(there, key), tags(here, key)
            assert wanted == had, f"{rule.source}:{key} has tags {wanted}, {target} has {had}"
