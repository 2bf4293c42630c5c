"""The rules about keys, against what a MinIO server does with them."""

from __future__ import annotations

import pytest

from tandem.errors import Invalid
from tandem.stores.base import Content
from tandem.stores.keys import flaw
from tandem.stores.s3 import S3Store
from tests.stores.conftest import minio_site

REFUSED = ("a//b", "a/./b", "..", "a/. ", "a\\..", "a\0b", "s" * 256, "s" * 247 + "/")
RENAMED = {"/lead": "lead", "a__XLDIR__": "a/"}


@pytest.fixture
async def unguarded(minio, bucket, monkeypatch):
    """A store that sends any key, whatever the rules say."""
    store = S3Store.connect(minio_site(minio, bucket))
    monkeypatch.setattr(store._connection, "check_key", lambda *_: None)
    yield store
    await store.close()


@pytest.mark.parametrize("key", REFUSED, ids=lambda key: repr(key[:9]))
async def test_minio_refuses_what_the_rules_refuse(unguarded, key):
    assert flaw(key, "minio")
    with pytest.raises(Invalid, match="400 XMinioInvalid"):
        await unguarded.put(key, b"", Content())


@pytest.mark.parametrize(("key", "kept"), RENAMED.items())
async def test_minio_keeps_under_another_name_what_the_rules_refuse(unguarded, key, kept):
    assert flaw(key, "minio")
    await unguarded.put(key, b"", Content())
    assert [entry.key async for entry in unguarded.list()] == [kept]
