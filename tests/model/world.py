"""Sites, clients, a queue and the workers between them, all on one virtual clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tandem.change import Change, encode
from tandem.engine import Engine
from tandem.errors import Conflict, ErrorClass, TandemError
from tandem.metrics import NoMetrics
from tandem.queues.memory import MemoryQueue
from tandem.reconcile import Finding, sync
from tandem.rule import Rule
from tandem.settings import Site
from tandem.stores.base import ALWAYS, Capabilities, Content
from tandem.stores.memory import MemoryStore
from tandem.transfer import BUSY, Transfer
from tandem.worker import Worker
from tests.model.clock import VirtualLoop
from tests.model.contract import Contract, shown
from tests.model.network import DEATHS, LIFE, Fate, Network, Process, Request, own_tasks
from tests.model.wire import QUEUE, WiredQueue, WiredStore

# Sizes in bytes: an object over SMALL is not read before it is compared, one over PART goes in
# parts, and this many bytes of bodies may be in memory at once.
SMALL, PART, MEMORY = 4, 8, 64
LANES = 2
WORKERS = 3
# How many requests a world may need to come to rest before that counts as never.
RESTLESS = 10_000
# How long nobody may ask anything when all is quiet, in seconds.
SILENCE = 3600.0
# What a source tells of, whoever does it.
TOLD = frozenset({"put", "delete", "put_tags", "complete_upload", "copy"})
# What may end in an error stream here; redriving then helps. Anything else is a mistake.
REDRIVEN = frozenset({ErrorClass.MISSING})


@dataclass(frozen=True)
class Configuration:
    """Say what is replicated, and what the servers can do."""

    rules: tuple[Rule, ...]
    capabilities: Mapping[str, Capabilities]
    versioned: frozenset[str] = frozenset()
    # How many messages a worker has in hand at once; within one, those of a key take turns.
    slots: int = 1

    @property
    def directions(self) -> tuple[Rule, ...]:
        """Return the rules, those that go both ways once for each way."""
        return tuple(way for rule in self.rules for way in rule.directions)

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the sites that tell of what happens to them."""
        return tuple(dict.fromkeys(way.source for way in self.directions))

    @property
    def owned(self) -> tuple[str, ...]:
        """Return the sites at which clients write, and not strangers."""
        copies = {target for rule in self.rules if not rule.two_way for target in rule.targets}
        return tuple(site for site in self.sources if site not in copies)


class World:
    """Let things happen, one after the other."""

    def __init__(self, configuration: Configuration, skews: Mapping[str, float]) -> None:
        self.configuration = configuration
        self.loop = VirtualLoop()
        own_tasks(self.loop)
        self.mistakes: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.mistakes.append(context))
        self.network = Network(self.loop, self._serve)
        self.queue = MemoryQueue()
        self.stores = {
            name: MemoryStore(
                name,
                versioned=name in configuration.versioned,
                clock=partial(self._clock, skews.get(name, 0.0)),
                capabilities=capabilities,
            )
            for name, capabilities in configuration.capabilities.items()
        }
        self.contract = Contract(self.stores, configuration.directions)
        # Sources and keys whose last change nobody was told of, and those whose copy may yet be
        # overwritten by a request that nobody knows of.
        self.untold: set[tuple[str, str]] = set()
        self.in_doubt: set[tuple[str, str]] = set()
        self.syncs: list[Process] = []
        self._processes = 0
        self._events = 0
        self.workers = [self._start_worker() for _ in range(WORKERS)]
        self.loop.run_for()

    # Clients

    def put(
        self, site: str, key: str, body: bytes, content: Content, delays: Sequence[float]
    ) -> None:
        self.loop.at_once(self.stores[site].put(key, body, content))
        self._wrote(site, key, delays)

    def put_parts(
        self,
        site: str,
        key: str,
        bodies: Sequence[bytes],
        content: Content,
        delays: Sequence[float],
    ) -> None:
        store = self.stores[site]
        upload = self.loop.at_once(store.create_upload(key, content))
        parts = tuple(
            self.loop.at_once(store.upload_part(key, upload, number, body))
            for number, body in enumerate(bodies, 1)
        )
        self.loop.at_once(store.complete_upload(key, upload, parts, ALWAYS))
        self._wrote(site, key, delays)

    def tag(self, site: str, key: str, tags: Mapping[str, str], delays: Sequence[float]) -> None:
        if shown(self.stores[site], key):
            self.loop.at_once(self.stores[site].put_tags(key, tags))
            self._wrote(site, key, delays)

    def describe(self, site: str, key: str, content: Content, delays: Sequence[float]) -> None:
        """Give an object new headers, metadata and tags, as a copy onto itself does."""
        state = shown(self.stores[site], key)
        if state:
            self.put(site, key, state.body, content, delays)

    def delete(self, site: str, key: str, delays: Sequence[float]) -> None:
        self.loop.at_once(self.stores[site].delete(key))
        self._wrote(site, key, delays)

    def put_foreign(self, site: str, key: str, body: bytes, content: Content) -> None:
        """Let somebody put an object at a target."""
        self.loop.at_once(self.stores[site].put(key, body, content))
        self.contract.stranger_wrote(site, key)
        self._meddled(site, key)

    def delete_copy(self, site: str, key: str) -> None:
        """Let somebody delete what is at a target."""
        self.loop.at_once(self.stores[site].delete(key))
        self.contract.stranger_wrote(site, key)
        self._meddled(site, key)

    def tag_copy(self, site: str, key: str, tags: Mapping[str, str]) -> None:
        """Let somebody give other tags to what is at a target."""
        if shown(self.stores[site], key):
            self.loop.at_once(self.stores[site].put_tags(key, tags))
            self._meddled(site, key)

    def _meddled(self, site: str, key: str) -> None:
        """No source tells of what strangers do at a target, unless it is the source of another."""
        self.untold.update(self.contract.origins(site, key))
        if site in self.configuration.sources:
            self._wrote(site, key, (0.0,))

    def _wrote(self, site: str, key: str, delays: Sequence[float]) -> None:
        state = self.loop.at_once(self.stores[site].head(key))
        if state is None:
            self.contract.client_deleted(site, key)
            self._tell(Change(site, key, removed=True), delays)
            return
        self.contract.client_wrote(site, key)
        change = Change(
            site,
            key,
            etag=state.etag,
            size=state.size,
            version_id=state.version_id,
            sequencer=f"{self._events:016X}",
            time=state.last_modified,
        )
        self._tell(change, delays)

    def _tell(self, change: Change, delays: Sequence[float]) -> None:
        """Raise an event, once for each of `delays` in seconds; it is lost if there are none."""
        self._events += 1
        change = replace(change, event=f"event {self._events}")
        place = (change.site, change.key)
        (self.untold.discard if delays else self.untold.add)(place)
        for number, delay in enumerate(delays):
            self.queue.put(change.site, encode(change), repeated=number > 0)
            self.queue._messages[-1].due = self.loop.time() + delay

    # Processes

    def _start_worker(self) -> Process:
        process = self._process("worker")
        queue = WiredQueue(self.queue, self.network, process)
        sites = {name: Site(name, name, "http://127.0.0.1:9", "u", "p") for name in self.stores}
        worker = Worker(queue, self._engine(process), sites, NoMetrics(), self.configuration.slots)
        process.start(worker.run())
        return process

    def start_sync(self, rule: Rule, target: str) -> list[Finding]:
        """Run `tandem sync --thorough` beside the workers; return its findings as they come."""
        process = self._process("sync")
        findings: list[Finding] = []
        self.syncs.append(process)

        async def run() -> None:
            def told(finding: Finding, _: str) -> None:
                findings.append(finding)

            try:
                engine = self._engine(process)
                await sync(engine, rule, target, told, thorough=True, in_flight=LANES)
            except TandemError as error:
                findings.append(Finding(rule.name, rule.source, target, "", None, error))
            self.syncs.remove(process)

        process.start(run())
        self.loop.run_for()
        return findings

    def kill(self, process: Process, life: float = 0.0) -> None:
        """Kill a process; a worker is started anew, as its supervisor does.

        What it has sent lives for `life` seconds more. Its messages come again, and are followed by
        a late look. Where that is not so, only a sync makes the contract hold again: a sync that
        was killed has no messages; and a message that a slow worker had to leave to this one, and
        that it finishes nevertheless, does not come again.
        """
        self.network.sever(process, life)
        rivals = {
            one.message for worker in self.workers if worker is not process for one in worker.held
        }
        if process in self.syncs or any(one.message in rivals for one in process.held):
            for request in self.network.abandoned_by(process):
                self.in_doubt.update(self.contract.origins(request.site, request.key))
        process.die()
        if process in self.workers:
            self.workers[self.workers.index(process)] = self._start_worker()
        elif process in self.syncs:
            self.syncs.remove(process)
        self.loop.run_for()

    def _process(self, kind: str) -> Process:
        self._processes += 1
        return Process(f"{kind} {self._processes}", self.loop)

    def _engine(self, process: Process) -> Engine:
        wires = {
            name: WiredStore(store, self.network, process) for name, store in self.stores.items()
        }
        transfer = Transfer(part_size=PART, memory=MEMORY, lanes=LANES)
        return Engine(wires, self.configuration.rules, transfer)

    # What happens on the way

    def decide(self, request: Request, fate: Fate) -> None:
        """Let `fate` come to a request, and go on until every process waits again."""
        if fate not in DEATHS:
            self.network.decide(request, fate)
            self.loop.run_for()
        else:
            if fate is Fate.DIES_AFTER:
                self.network.decide(request, Fate.ARRIVES)
            process = request.process
            self.kill(process, LIFE if fate is Fate.DIES_DURING else 0.0)
        assert not self.mistakes, self.mistakes

    def lapse(self, pick: int) -> None:
        """Let the queue deliver a message again while somebody may be at it."""
        if self.queue._messages:
            self.queue._messages[pick % len(self.queue._messages)].due = self.loop.time()
            self.queue.wake()
            self.loop.run_for()

    def _serve(self, request: Request) -> Any:
        """Carry a request out at its server, and check what it did there."""
        if not request.mutates or request.site == QUEUE:
            return self.loop.at_once(request.perform())
        before = shown(self.stores[request.site], request.key)
        result = self.loop.at_once(request.perform())
        self.contract.written(request, before)
        if request.operation in TOLD and request.site in self.configuration.sources:
            self._wrote(request.site, request.key, (0.0,))
        return result

    def _clock(self, skew: float) -> datetime:
        return self.loop.now() + timedelta(seconds=skew)

    def may_meddle(self, site: str) -> bool:
        """Return whether a stranger's write cannot be taken for ours while it is deleted.

        A target without deletes on condition cannot tell that its object changed after the look.
        """
        return not self._is_busy() or self.stores[site].capabilities.conditional_delete

    # Rest

    def settle(self) -> None:
        """Go on without any fault until nothing is left to do, redriving what failed."""
        budget = self.network.carried_out + RESTLESS
        while True:
            self.loop.run_for()
            assert not self.mistakes, self.mistakes
            assert self.network.carried_out < budget, f"no rest: {self.network.pending}"
            if self.network.pending:
                self.network.decide(self.network.pending[0], Fate.ARRIVES)
            elif self.network.held:
                self.network.release(self.network.held[0])
            elif self._is_busy():
                assert self.loop.run_to_timer(), "everybody waits for nothing"
            elif not self._redrive():
                return

    def _is_busy(self) -> bool:
        """Return whether something goes on by itself as time passes."""
        in_hand = any(worker.held for worker in self.workers)
        return bool(in_hand or self.queue._messages or self.network.abandoned or self.syncs)

    def _redrive(self) -> bool:
        failures = list(self.queue._failures.values())
        for failure in failures:
            assert failure.error_class in REDRIVEN, failure
            assert failure.change
            self.loop.at_once(self.queue.send(failure.change))
            self.loop.at_once(self.queue.drop(failure))
        return bool(failures)

    def reconcile(self) -> None:
        """Run `tandem sync --thorough` for each rule and target, and again where it failed."""
        for rule in self.configuration.directions:
            for target in rule.targets:
                while any(finding.error for finding in self._sync(rule, target)):
                    self.loop.run_for(BUSY)
        self.untold.clear()
        self.in_doubt.clear()

    def _sync(self, rule: Rule, target: str) -> list[Finding]:
        findings = self.start_sync(rule, target)
        self.settle()
        faults = [one.error for one in findings if one.error]
        # Somebody's upload is too young to be taken for abandoned: that passes.
        assert all(isinstance(fault, Conflict) for fault in faults), faults
        return findings

    def stay_silent(self) -> None:
        """Check that nothing is left to do: neither by itself, nor when all is told once more."""
        asked, wrote = self.network.asked, self.network.written
        self.loop.run_for(SILENCE)
        assert self.network.asked == asked, f"{self.network.pending} though all was quiet"
        for site in self.configuration.sources:
            for key in self.stores[site]._bucket._versions:
                self._tell(Change(site, key), (0.0,))
        self.settle()
        assert self.network.written == wrote, "what was told once more was written once more"

    def close(self) -> None:
        """Leave no task behind."""
        for process in [*self.workers, *self.syncs]:
            self.network.sever(process)
            process.die()
        self.loop.close()
