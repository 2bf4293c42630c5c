"""What to do about one key under a rule that goes both ways. Pure.

Each direction is decided by itself, at any time and in any order, and both come to the same end.
Who has seen what is told by provenance: a side whose key is a copy from the other, edited by
nobody, has nothing to say that the other does not know; a side that once held a copy of what the
other holds now has seen it and moved on, be it to another object or to none. Where neither can be
told, the later last-modified stands, and a delete is not made.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.decision import EQUAL, SOURCE_VERSION, Action, Decision, Look, difference, is_copy
from tandem.rule import Rule
from tandem.stores.base import ObjectState

THERE = "the target is newer"
LATER = "both sides changed, and the target is later"
GONE = "a copy of what was deleted at the target"
COPY_GONE = "its copy was deleted at the target"
WRITTEN = "written at the target"
# The reasons of a skip that leave something to do to the way back.
FOR_THE_WAY_BACK = frozenset({THERE, LATER, GONE, COPY_GONE, WRITTEN})
# The reason of a copy that overwrites what was written at the target meanwhile.
CONFLICT = "both sides changed, and this one is later"


@dataclass(frozen=True, slots=True)
class Side:
    """Hold what one site has under its key, and the versions that it had before, newest first.

    `look` is None if there is positive evidence that it has nothing.
    """

    site: str
    key: str
    look: Look | None
    history: tuple[ObjectState, ...] = ()

    def is_copy_from(self, other: Side) -> bool:
        """Return whether this side holds a copy from `other` that nobody has edited since."""
        return self.look is not None and is_copy(self.look.state, other.site, other.key)

    def is_outdated_copy_from(self, other: Side) -> bool:
        """Return whether this side's copy names another version than `other` has now.

        The same bytes were written there once more. Unless the copy says so, an edit or a delete of
        it would count as one that has not seen them. Of two copies of each other each would be
        outdated by the next copy, for ever, and neither has been edited.
        """
        if not (self.look and other.look and self.is_copy_from(other)) or other.is_copy_from(self):
            return False
        return self.look.state.metadata.get(SOURCE_VERSION) != other.look.state.version_id

    def has_moved_on_from(self, other: Side) -> bool:
        """Return whether this side once held a copy of what `other` holds now.

        By its version: the same bytes may have been written once more since.
        """
        if other.look is None or other.look.state.version_id is None:
            return False
        return any(
            is_copy(state, other.site, other.key)
            and state.metadata.get(SOURCE_VERSION) == other.look.state.version_id
            for state in self.history
        )


def is_open(source: Side, target: Side) -> bool:
    """Return whether the two sides' histories matter to the decision."""
    here, there = source.look, target.look
    if here and there and difference(here, there) in (None, "tags differ"):
        return False
    return bool(here or there) and source.is_copy_from(target) is target.is_copy_from(source)


def decide_both_ways(source: Side, target: Side, rule: Rule) -> Decision:
    """Return what makes the target match the source, or leave it to the way back.

    `rule` is already turned in the direction that is asked about.
    """
    if source.look and target.look:
        return _decide_between(source, target, source.look, target.look)
    if source.look:
        return _decide_copy(source, target)
    if target.look:
        return _decide_delete(source, target, rule)
    return Decision(Action.SKIP, "on neither side")


def _decide_between(source: Side, target: Side, here: Look, there: Look) -> Decision:
    differs = difference(here, there)
    if differs in (None, "tags differ") and target.is_outdated_copy_from(source):
        return Decision(Action.COPY, "the copy names an earlier version")
    if differs is None:
        return Decision(Action.SKIP, EQUAL)
    if differs == "tags differ":
        return Decision(Action.RETAG, differs)
    # Each question is asked of both sides, so that the way back comes to the opposite answer.
    knows, known = target.is_copy_from(source), source.is_copy_from(target)
    if knows is known:
        knows, known = source.has_moved_on_from(target), target.has_moved_on_from(source)
    if knows is not known:
        return Decision(Action.COPY, differs) if knows else Decision(Action.SKIP, THERE)
    if (here.state.last_modified, source.site) > (there.state.last_modified, target.site):
        return Decision(Action.COPY, CONFLICT)
    return Decision(Action.SKIP, LATER)


def _decide_copy(source: Side, target: Side) -> Decision:
    if source.is_copy_from(target):
        return Decision(Action.SKIP, GONE)
    if target.has_moved_on_from(source):
        return Decision(Action.SKIP, COPY_GONE)
    return Decision(Action.COPY, "not at the target")


def _decide_delete(source: Side, target: Side, rule: Rule) -> Decision:
    if not target.is_copy_from(source) and not source.has_moved_on_from(target):
        return Decision(Action.SKIP, WRITTEN)
    if rule.deletes == "keep":
        return Decision(Action.SKIP, "the rule keeps what the source deletes")
    return Decision(Action.DELETE, "deleted at the source")
