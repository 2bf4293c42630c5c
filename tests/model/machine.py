"""The state machine: what clients, networks and crashes may do, one step at a time."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tandem.stores.base import Content
from tests.model.network import DEATHS, Fate
from tests.model.tally import Tally
from tests.model.world import Configuration, World

HOUR = 3600.0
PREFIX = "in/"
# Few keys, so that things happen to the same one; the last is covered by no rule.
KEYS = ("in/a", "in/a", "in/a", "in/b", "out/a")
# Nobody puts this key at a source.
STRANGER = "in/foreign"
# Small ones; one that is looked at first; large ones, of which two have the same size.
BODIES = (b"a", b"", b"bb", b"middle", b"A" * 20, b"B" * 20, b"C" * 29)
PARTS = ((b"A" * 20,), (b"A" * 10, b"A" * 10), (b"D" * 9, b"D" * 9, b"E"))
CONTENTS = (
    Content({"content-type": "text/plain"}),
    Content({"content-type": "text/plain"}, {"owner": "ada"}, {"team": "x"}),
    Content({"content-type": "text/html", "cache-control": "no-cache"}, {}, {"team": "y"}),
)
TAGS = ({}, {"team": "x"}, {"team": "z", "more": "1"})
# When an event comes, in seconds after it was raised: at once, twice, late, never.
TELLINGS = ((0.0,), (0.0,), (0.0,), (0.0, 0.0), (0.0, 5.0), (0.5,), (20.0,), (0.0, 70.0), ())
# What strangers do to a copy: put something else, delete it, tag it.
MEDDLINGS = (b"theirs", None, {"team": "theirs"})
PAUSES = (0.3, 1.0, 4.0, 11.0, 30.0, 61.0)

FAULTS = tuple(fate for fate in Fate if fate is not Fate.ARRIVES)
# What may happen in one example. Each redelivery has a late look follow, which mends whatever went
# wrong before it: so there are calm examples, in which requests are only slow, or unheard.
CALM = frozenset({Fate.HELD})
WEATHERS = (CALM, CALM | {Fate.LATE, Fate.UNHEARD, Fate.LOST}, frozenset(FAULTS))
# Those that leave its process in doubt about a write.
OBSCURE = (Fate.HELD, Fate.LATE, Fate.UNHEARD, Fate.DIES_DURING)
# What becomes of a request, by its place among those pending: mostly something good. Those who
# asked first go on first, or those who asked last overtake them.
OLDEST, NEWEST = (
    (
        *((place, Fate.ARRIVES) for _ in FAULTS for place in places),
        *((places[0], fate) for fate in FAULTS),
    )
    for places in ((0, 0, 0, 0, 1, 2), (-1, -1, -1, -1, -2, 0))
)
# How many steps there are at least between two times of quiet: races take several.
UNREST = 12
# Every point at which a process waits for a server, writes that readers see apart.
WRITES = ("put", "delete", "put_tags", "complete_upload")
OPERATIONS = (
    *WRITES,
    *("create_upload", "upload_part", "abort_upload", "list_uploads", "list_parts"),
    *("head", "is_absent", "open", "read", "tags", "list", "history"),
    *("done", "retry", "working", "send", "fail", "publish_outcome"),
)

keys = st.sampled_from(KEYS)
bodies = st.sampled_from(BODIES)
contents = st.sampled_from(CONTENTS)
tellings = st.sampled_from(TELLINGS)
# Which of the sites at which clients write, or strangers.
sides = st.integers(0, 1)
places = st.integers(0, 3)
# Up to a dozen moves, one for each byte after the first, which says of which kind they are: a draw
# for each would cost more than all that the replicator does.
orders = st.binary(min_size=2, max_size=13)


class ReplicationMachine(RuleBasedStateMachine):
    """Do at random what the contract must survive."""

    def __init__(self, configuration: Configuration, tally: Tally) -> None:
        super().__init__()
        random.seed(0)
        self.configuration = configuration
        self.tally = tally
        self.owned = configuration.owned
        # Since all was quiet.
        self.steps = 0
        # What is to become of the next request of an operation.
        self.doomed: dict[str, Fate] = {}

    @initialize(
        skews=st.tuples(*(st.sampled_from((0.0, HOUR, -HOUR)) for _ in range(3))),
        foreign=st.sampled_from((None, *CONTENTS)),
        weather=st.sampled_from(WEATHERS),
    )
    def begin(
        self, skews: tuple[float, ...], foreign: Content | None, weather: frozenset[Fate]
    ) -> None:
        self.weather = weather
        names = tuple(self.configuration.capabilities)
        self.world = World(self.configuration, dict(zip(names, skews, strict=False)))
        self.copies = tuple(name for name in names if name not in self.owned)
        for name in self.copies:
            self.world.put_foreign(name, STRANGER, b"not yours", CONTENTS[1])
            self.world.put_foreign(name, "out/foreign", b"not yours", CONTENTS[1])
            if foreign is not None:
                self.world.put_foreign(name, "in/b", b"a", foreign)

    @rule(side=sides, key=keys, body=bodies, content=contents, delays=tellings, then=orders)
    def put(self, side, key, body, content, delays, then):
        self.world.put(self._owned(side), key, body, content, delays)
        self._go_on(then)

    @rule(
        side=sides,
        key=keys,
        parts=st.sampled_from(PARTS),
        content=contents,
        delays=tellings,
        then=orders,
    )
    def put_parts(self, side, key, parts, content, delays, then):
        self.world.put_parts(self._owned(side), key, parts, content, delays)
        self._go_on(then)

    @rule(side=sides, key=keys, content=contents, delays=tellings, then=orders)
    def describe(self, side, key, content, delays, then):
        self.world.describe(self._owned(side), key, content, delays)
        self._go_on(then)

    @rule(side=sides, key=keys, tags=st.sampled_from(TAGS), delays=tellings, then=orders)
    def tag(self, side, key, tags, delays, then):
        self.world.tag(self._owned(side), key, tags, delays)
        self._go_on(then)

    @rule(side=sides, key=st.sampled_from((*KEYS, STRANGER)), delays=tellings, then=orders)
    def delete(self, side, key, delays, then):
        self.world.delete(self._owned(side), key, delays)
        self._go_on(then)

    @precondition(lambda self: self.copies)
    @rule(side=sides, key=keys, meddling=st.sampled_from(MEDDLINGS), then=orders)
    def meddle(self, side, key, meddling, then):
        """Let somebody change a copy behind the replicator's back."""
        site = self.copies[side % len(self.copies)]
        if self.world.may_meddle(site):
            if isinstance(meddling, bytes):
                self.world.put_foreign(site, key, meddling, CONTENTS[1])
            elif meddling is None:
                self.world.delete_copy(site, key)
            else:
                self.world.tag_copy(site, key, meddling)
        self._go_on(then)

    @rule(operation=st.sampled_from(OPERATIONS), fate=st.sampled_from(FAULTS), then=orders)
    def doom(self, operation, fate, then):
        """Let the next request of a kind meet with a fault."""
        self.doomed[operation] = fate
        self._go_on(then)

    @rule(operation=st.sampled_from(WRITES), fate=st.sampled_from(OBSCURE), then=orders)
    def blur(self, operation, fate, then):
        """Let it be unclear for a while whether the next write of a kind happens."""
        self.doomed[operation] = fate
        self._go_on(then)

    @rule(then=orders)
    def go_on(self, then):
        self._go_on(then)

    @rule(seconds=st.sampled_from(PAUSES), then=orders)
    def wait(self, seconds, then):
        self.world.loop.run_for(seconds)
        self._go_on(then)

    @precondition(lambda self: self.world.network.held or self.world.network.abandoned)
    @rule(place=places, then=orders)
    def release(self, place, then):
        """Let a slow request arrive, or an abandoned one be carried out."""
        network = self.world.network
        waiting = network.held + network.abandoned
        network.release(waiting[place % len(waiting)])
        self._go_on(then)

    @precondition(lambda self: self.weather >= DEATHS)
    @rule(place=places, then=orders)
    def lapse(self, place, then):
        self.world.lapse(place)
        self._go_on(then)

    @rule(side=sides, then=orders)
    def reconcile(self, side, then):
        """Begin a sync beside the workers."""
        if not self.world.syncs:
            ways = self.configuration.directions
            chosen = ways[side % len(ways)]
            self.world.start_sync(chosen, chosen.targets[-1])
        self._go_on(then)

    @precondition(lambda self: self.steps >= UNREST)
    @rule()
    def quiet(self):
        """Fall quiet, and check the contract: with what was told, then after a sync."""
        self.steps = 0
        self.doomed.clear()
        self.world.settle()
        self.world.contract.check(but=self.world.untold | self.world.in_doubt)
        self.world.reconcile()
        self.world.contract.check()
        self.world.stay_silent()
        self.world.contract.rest()

    @invariant()
    def count(self):
        self.tally.steps += 1

    def _owned(self, side: int) -> str:
        return self.owned[side % len(self.owned)]

    def _go_on(self, then: bytes) -> None:
        """Decide what becomes of requests, one after the other."""
        self.steps += 1
        moves = NEWEST if then[0] % 2 else OLDEST
        for place, fate in (moves[byte % len(moves)] for byte in then[1:]):
            pending = self.world.network.pending
            if not pending:
                return
            request = pending[place % len(pending)]
            chosen = self.doomed.pop(request.operation, fate)
            if chosen not in self.weather:
                chosen = Fate.ARRIVES
            if chosen is not Fate.ARRIVES:
                self.tally.fates[chosen.value] += 1
            self.world.decide(request, chosen)

    def teardown(self) -> None:
        """Fall quiet, and check the contract; unless the example has failed already."""
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.quiet()
        finally:
            self.tally.examples += 1
            self.tally.requests += self.world.network.asked
            self.world.close()


def machine(configuration: Configuration, tally: Tally) -> Callable[[], ReplicationMachine]:
    """Return what makes a machine for each example; all of them count into `tally`."""

    def make() -> ReplicationMachine:
        return ReplicationMachine(configuration, tally)

    return make
