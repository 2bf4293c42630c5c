"""Which keys each dialect can keep."""

from __future__ import annotations

import pytest

from tandem.stores.keys import FLAWS, flaw, unrepresentable

FLAWED = {
    "": "0 bytes, and 1 to 1024",
    "k" * 1025: "1025 bytes",
    "\u00e9" * 513: "1026 bytes",
    "\ud800": "half of a surrogate pair",
}
FLAWED_IN_FOLDERS = {
    "/lead": "a leading /",
    "a//b": "//",
    "a/./b": "a segment . or ..",
    "..": "a segment . or ..",
    "a/..": "a segment . or ..",
    "a\0b": "a NUL",
    "s" * 256: "a segment over 255 bytes",
    "a/" + "\u00e9" * 128: "a segment over 255 bytes",
}
FLAWED_ON_MINIO = {
    "a__XLDIR__": "ends with __XLDIR__",
    "a__XLDIR__/b": "ends with __XLDIR__",
    "a/. ": "between blanks or backslashes",
    "a\\..": "between blanks or backslashes",
    "s" * 247 + "/": "over 246 bytes",
}
FINE = ("a", "trail/", "..a", "a..", "...", "a.b", "__XLDIR__a", "s" * 255, "s" * 246 + "/", "\n")


@pytest.mark.parametrize("dialect", FLAWS)
@pytest.mark.parametrize(("key", "reason"), FLAWED.items(), ids=range(len(FLAWED)))
def test_nobody_keeps_a_key_that_s3_does_not_define(dialect, key, reason):
    assert reason in (flaw(key, dialect) or "")


@pytest.mark.parametrize("dialect", ["minio", "versitygw"])
@pytest.mark.parametrize(
    ("key", "reason"), FLAWED_IN_FOLDERS.items(), ids=range(len(FLAWED_IN_FOLDERS))
)
def test_servers_that_keep_objects_in_folders_keep_only_paths(dialect, key, reason):
    assert flaw(key, dialect) == reason
    assert reason in unrepresentable(dialect)


@pytest.mark.parametrize(
    ("key", "reason"), FLAWED_ON_MINIO.items(), ids=range(len(FLAWED_ON_MINIO))
)
def test_minio_has_names_of_its_own_for_folders(key, reason):
    assert reason in (flaw(key, "minio") or "")


@pytest.mark.parametrize("key", [*FLAWED_IN_FOLDERS, *FLAWED_ON_MINIO], ids=lambda key: key[:9])
def test_nothing_is_forbidden_on_aws_that_aws_can_keep(key):
    assert flaw(key, "aws") is None


@pytest.mark.parametrize("dialect", FLAWS)
@pytest.mark.parametrize("key", FINE, ids=lambda key: repr(key[:9]))
def test_what_only_looks_odd_is_kept(dialect, key):
    assert flaw(key, dialect) is None


def test_versitygw_cannot_list_what_xml_cannot_say():
    assert flaw("a\x01", "versitygw") == "a character that XML 1.0 cannot list"
    assert flaw("a\x01", "minio") is None
