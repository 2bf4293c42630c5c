"""Writing one key at one target: the copy with all that goes along, the delete, what is kept."""

from __future__ import annotations

from datetime import UTC, datetime

from tandem.change import Change
from tandem.decision import Look, own_metadata, provenance
from tandem.delete_budget import DeleteBudget
from tandem.rule import Rule
from tandem.sharing import Body, SharedReading
from tandem.stores.base import (
    ALWAYS,
    CONFLICTS,
    NO_VERSION,
    Condition,
    Content,
    ObjectState,
    ObjectStore,
    Written,
)
from tandem.transfer import Transfer


class Writer:
    """Write what one change is about at one target, and sum up what was written.

    `size` is in bytes; `lag`, in seconds, is that of the last copy, None before the first.
    `deadline` and `shared` are as in `Transfer.copy`.
    """

    def __init__(
        self,
        source: ObjectStore,
        target: ObjectStore,
        rule: Rule,
        change: Change,
        transfer: Transfer,
        deletes: DeleteBudget,
        deadline: float | None,
        shared: SharedReading | None,
    ) -> None:
        self.source = source
        self.target = target
        self.rule = rule
        self.change = change
        self.key = rule.target_key(change.key)
        self.transfer = transfer
        self.deletes = deletes
        self.deadline = deadline
        self.shared = shared
        self.guarded = target.capabilities.conditional_writes
        self.size = 0
        self.lag: float | None = None

    async def copy(
        self,
        seen: Look,
        condition: Condition,
        body: Body | None = None,
        version_id: str | None = None,
    ) -> Written:
        """Copy what the source was seen to hold, or one version of it; `body` is it if known.

        Raises `Conflict` if the condition does not hold, where the target keeps to conditions.
        """
        state = seen.state
        condition = condition if self.guarded else ALWAYS
        told = provenance(self.source.site, state, self._sequencer(state), self.key)
        content = Content(
            headers=state.headers,
            metadata=own_metadata(state.metadata) | told,
            tags=seen.tags,
            storage_class=self.rule.storage_class,
        )
        if body is not None:
            written = await self.transfer.put(self.target, self.key, body, content, condition)
        else:
            ends, end = (self.source, self.target), self.deadline
            sizes = await self._sizes(state, version_id)
            written = await self.transfer.copy(
                *ends, state, content, condition, sizes, end, self.key, self.shared, version_id
            )
        self.size += state.size
        self.lag = self._lag(state)
        return written

    async def delete(self, condition: Condition) -> None:
        """Delete the key, if the rule's budget has room; on condition, where the target can."""
        can = self.target.capabilities.conditional_delete
        self.deletes.check(self.rule, self.target.site, self.key)
        await self.target.delete(self.key, condition if can else ALWAYS)
        self.deletes.note(self.rule.name, self.target.site)

    async def keep(self, loser: Look) -> None:
        """Keep what a conflict overwrites: as an old version, or else under CONFLICTS."""
        state = loser.state
        if state.version_id not in {None, NO_VERSION}:
            return
        content = Content(state.headers, state.metadata, loser.tags)
        kept = f"{CONFLICTS}{state.etag}/{state.key}"
        await self.target.copy(state.key, kept, content, if_match=state.etag)

    async def _sizes(self, state: ObjectState, version_id: str | None) -> tuple[int, ...]:
        """Return the parts to send: the source's own, if the rule asks and memory allows."""
        max_parts = self.target.capabilities.max_parts
        if self.rule.parts == "source":
            sizes: tuple[int, ...] = ()
            if "-" in state.etag:
                sizes = await self.source.part_sizes(state.key, state.etag, version_id)
            if self.transfer.takes(sizes or (state.size,), max_parts):
                return sizes
        return self.transfer.sizes(state.size, max_parts)

    def _hinted(self, state: ObjectState) -> bool:
        """Return whether the notification spoke of this very state of the source."""
        return self.change.etag == state.etag

    def _sequencer(self, state: ObjectState) -> str | None:
        return self.change.sequencer if self._hinted(state) else None

    def _lag(self, state: ObjectState) -> float:
        """Return now minus last-modified, which a notification tells finer than HTTP's seconds."""
        modified = self.change.time if self._hinted(state) else None
        return max(0.0, (datetime.now(UTC) - (modified or state.last_modified)).total_seconds())
