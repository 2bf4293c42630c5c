"""Reading a sample of the objects on both sides."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import sample
from tandem.change import Change
from tandem.decision import Action
from tandem.engine import Engine
from tandem.errors import Conflict
from tandem.rule import Rule
from tandem.sample import Sample
from tandem.stores.base import Content
from tandem.stores.memory import MemoryStore
from tests.test_reconcile import examined, keys

RULE = Rule("documents", "source", ("target",))


@given(st.integers(0, 2**32 - 1), st.floats(0, 100), keys)
def test_a_sample_is_the_same_whenever_its_seed_is(seed: int, percent: float, key: str):
    assert Sample(percent, seed).picks(key) == Sample(percent, seed).picks(key)
    assert Sample(100, seed).picks(key)
    assert not Sample(0, seed).picks(key)
    assert Sample(percent, seed).picks(key) <= Sample(min(100, percent * 2), seed).picks(key)


def test_a_sample_holds_about_its_share_of_the_keys_and_another_seed_others():
    names = [f"{number}" for number in range(10_000)]
    first, second = ({name for name in names if Sample(5, seed).picks(name)} for seed in (1, 2))
    assert 400 < len(first) < 600
    assert len(first & second) < 100


async def pair(body: bytes) -> tuple[MemoryStore, MemoryStore]:
    stores = MemoryStore("source"), MemoryStore("target")
    for store in stores:
        await store.put("k", body, Content())
    return stores


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 35])
async def test_objects_are_read_piece_by_piece_to_their_end(
    size: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sample, "CHUNK", 10)
    body = bytes(range(size))
    source, target = await pair(body)
    reading = await Sample(100, 1).read(source, target, "k", "k")
    assert (reading.size, reading.differs) == (size, False)
    assert reading.source == reading.target == hashlib.sha256(body).hexdigest()
    await target.put("k", body + b"more", Content())
    assert (await Sample(100, 1).read(source, target, "k", "k")).differs


async def test_what_is_deleted_meanwhile_is_a_conflict():
    source, target = await pair(b"body")
    await target.delete("k")
    with pytest.raises(Conflict, match="target:k was deleted"):
        await Sample(100, 1).read(source, target, "k", "k")


class Rotten(MemoryStore):
    """A store that tells of the bytes it once had, and gives others."""

    def open(self, key, **options):
        opening = super().open(key, **options)

        class Opened:
            async def __aenter__(self):
                reader = await opening.__aenter__()
                if reader and key == "rotten":
                    read = reader.read

                    async def flipped():
                        return bytes(byte ^ 1 for byte in await read())

                    reader.read = flipped
                return reader

            async def __aexit__(self, *error):
                return await opening.__aexit__(*error)

        return Opened()


async def test_bytes_that_rotted_under_an_etag_that_did_not_are_found_only_by_reading():
    stores = {"source": MemoryStore("source"), "target": Rotten("target")}
    machine = Engine(stores, [RULE])
    for key in ("fresh", "rotten"):
        await stores["source"].put(key, b"body", Content())
        await machine.converge(RULE, "target", Change("source", key))
    assert not any(finding.differs for finding in await examined(machine))
    for thorough in (True, False):
        found = await examined(machine, sample=Sample(100, 1), thorough=thorough)
        assert [(one.key, one.corrupt, one.differs) for one in found] == [
            ("fresh", False, False),
            ("rotten", True, True),
        ]
        assert found[1].decision is not None
        assert found[1].decision.action is Action.SKIP
