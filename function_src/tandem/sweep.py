"""Sweeping: aborting the uploads that a copy left behind and nobody will go on with.

A copy that is cut short is taken up by the next change of its key, and the upload of a state that
the source has left is aborted by the next large copy of that key. What is left are uploads whose
copy is no longer wanted. They are seen in no listing of objects, and their parts are paid for.

MinIO lists, for a whole bucket, only uploads begun since it was started; it aborts those that are
older than a day by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from tandem.decision import Action
from tandem.engine import Engine
from tandem.errors import TandemError
from tandem.ledger import Ledger, ledger_of
from tandem.retrying import insist
from tandem.rule import Rule
from tandem.settings import Sweep
from tandem.stores.base import Upload

# The age in seconds from which an upload is looked into.
OLDER_THAN = Sweep().older_than


@dataclass(frozen=True, slots=True)
class Swept:
    """Say what was found about one upload of ours at one target.

    `age` is that of its youngest part in seconds, by the target's clock; `parts` and `size` in
    bytes are what it holds of the object. `aborted` tells that it is, or in a rehearsal would be,
    aborted, `reason` why or why not; `error` is what kept it from being looked into or aborted.
    """

    rule: str
    source: str
    target: str
    upload: Upload
    age: float
    parts: int
    size: int
    aborted: bool
    reason: str
    error: TandemError | None = None


async def sweep(
    engine: Engine,
    rule: Rule,
    target: str,
    *,
    older_than: float = OLDER_THAN,
    dry_run: bool = False,
) -> AsyncGenerator[Swept, None]:
    """Abort the uploads of ours at `target` in which nothing has moved for `older_than` seconds.

    Only those under keys that `rule` writes, and only where both sides, asked about the key, need
    no copy: what a copy still wants it takes up or aborts itself. Yields each upload of ours that
    is old enough. `dry_run` aborts nothing. Somebody else's uploads are never touched. Raises
    what listing the uploads raises.
    """
    uploads = await insist(engine.stores[target].list_uploads)
    for upload in uploads:
        key = rule.source_key(upload.key)
        if key is None or not rule.covers(key):
            continue
        swept = await _look_into(engine, rule, target, upload, key, older_than)
        if swept and swept.aborted and not dry_run:
            swept = await _abort(engine, swept)
        if swept:
            yield swept


async def _look_into(
    engine: Engine, rule: Rule, target: str, upload: Upload, key: str, older_than: float
) -> Swept | None:
    """Return what is to be done about an upload, None if it is not ours or too young.

    `key` is what the source calls it.
    """
    store = engine.stores[target]
    ledger = None
    try:
        ledger = await insist(lambda: ledger_of(store, upload))
        if ledger is None or ledger.youngest < older_than:
            return None
        decision = await insist(lambda: engine.explain(rule, target, key))
    except TandemError as error:
        return _swept(rule, target, upload, ledger, error=error)
    unwanted = decision.action is not Action.COPY
    return _swept(rule, target, upload, ledger, aborted=unwanted, reason=decision.reason)


async def _abort(engine: Engine, swept: Swept) -> Swept:
    """Abort an upload; a copy that has just taken it up finds it gone, and begins again."""
    upload = swept.upload
    try:
        await insist(lambda: engine.stores[swept.target].abort_upload(upload.key, upload.upload_id))
    except TandemError as error:
        return replace(swept, aborted=False, error=error)
    return swept


def _swept(
    rule: Rule,
    target: str,
    upload: Upload,
    ledger: Ledger | None,
    *,
    aborted: bool = False,
    reason: str = "",
    error: TandemError | None = None,
) -> Swept:
    parts = tuple(ledger.parts.values()) if ledger else ()
    return Swept(
        rule=rule.name,
        source=rule.source,
        target=target,
        upload=upload,
        age=ledger.youngest if ledger else 0.0,
        parts=len(parts),
        size=sum(part.size for part in parts),
        aborted=aborted,
        reason=reason,
        error=error,
    )
