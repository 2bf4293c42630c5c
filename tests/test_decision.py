"""What is decided from what both sides hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from tandem.decision import Action, Look, decide, difference, own_metadata, provenance
from tandem.rule import Rule
from tandem.stores.base import ObjectState

RULE = Rule(name="documents", source="a", targets=("b",))
KEEP = replace(RULE, deletes="keep")
OWN_ALL = replace(RULE, ownership="all")
SOURCE = ObjectState(
    key="k",
    etag="e1",
    size=3,
    last_modified=datetime(2026, 1, 1, tzinfo=UTC),
    headers={"content-type": "text/plain"},
    metadata={"owner": "ada"},
)
COPY = replace(SOURCE, metadata={"owner": "ada", **provenance("a", SOURCE)})
FOREIGN = replace(SOURCE, etag="other", metadata={})


def act(source: ObjectState | None, target: ObjectState | None, rule: Rule = RULE) -> Action:
    return decide(source and Look(source), target and Look(target), rule).action


def test_a_key_that_is_not_at_the_target_is_copied():
    assert act(SOURCE, None) is Action.COPY


def test_a_copy_of_the_present_source_is_left_alone():
    assert act(SOURCE, COPY) is Action.SKIP


def test_a_copy_in_other_parts_is_known_by_its_provenance():
    assert act(SOURCE, replace(COPY, etag="e2-7")) is Action.SKIP


def test_equal_bytes_put_there_by_somebody_else_are_left_alone():
    assert act(SOURCE, SOURCE) is Action.SKIP


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (replace(COPY, etag="x", metadata={"owner": "ada", "tandem-etag": "x"}), "content differs"),
        (replace(COPY, size=4), "content differs"),
        (replace(COPY, headers={"content-type": "text/html"}), "headers differ"),
        (replace(COPY, headers={}), "headers differ"),
        (replace(COPY, metadata={**COPY.metadata, "owner": "bob"}), "metadata differs"),
        (replace(COPY, metadata={**COPY.metadata, "more": "1"}), "metadata differs"),
    ],
)
def test_a_target_that_differs_is_copied_over_and_told_why(changed: ObjectState, reason: str):
    decision = decide(Look(SOURCE), Look(changed), RULE)
    assert (decision.action, decision.reason) == (Action.COPY, reason)


def test_tags_that_differ_are_set_without_moving_bytes():
    decision = decide(Look(SOURCE, {"team": "x"}), Look(COPY, {"team": "y"}), RULE)
    assert decision.action is Action.RETAG


def test_content_that_differs_outweighs_tags_that_differ():
    changed = Look(replace(COPY, size=9), {"team": "y"})
    assert decide(Look(SOURCE, {"team": "x"}), changed, RULE).action is Action.COPY


def test_a_copy_is_deleted_when_its_source_is():
    assert act(None, COPY) is Action.DELETE


def test_what_tandem_did_not_write_is_not_deleted():
    assert act(None, FOREIGN) is Action.SKIP


def test_what_came_from_another_source_is_not_deleted():
    other = replace(COPY, metadata=provenance("c", SOURCE))
    assert act(None, other) is Action.SKIP


def test_a_rule_that_owns_all_deletes_what_others_wrote():
    assert act(None, FOREIGN, OWN_ALL) is Action.DELETE


def test_a_rule_that_keeps_deletes_nothing():
    assert act(None, COPY, KEEP) is Action.SKIP


def test_a_key_on_neither_side_needs_nothing():
    assert act(None, None) is Action.SKIP


def test_provenance_is_told_apart_from_the_users_own_metadata():
    assert own_metadata(COPY.metadata) == {"owner": "ada"}


def test_provenance_names_version_and_sequencer_where_there_are_any():
    told = provenance("a", replace(SOURCE, version_id="v7"), "0A")
    assert len(told.pop("tandem-seal")) == 16
    assert told == {
        "tandem-source": "a",
        "tandem-key": sha256(b"k").hexdigest()[:16],
        "tandem-etag": "e1",
        "tandem-version": "v7",
        "tandem-sequencer": "0A",
    }


def test_an_object_does_not_differ_from_itself():
    assert difference(Look(SOURCE), Look(SOURCE)) is None
