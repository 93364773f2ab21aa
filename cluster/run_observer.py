"""What one sweep keeps of a run: its run record, the logs of its events and attempts, its list of failures.

Everything that cannot be written is passed over with a note: a record is not worth a run. It must not know
the pool, nor other sweeps of the run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.account import Account, Attempted, Incident, Outcome, counted
from cluster.display import QUIET, Display
from cluster.prepare import Prepared, shards_left_within
from jobs.compute.assignment import Assignment, Receipt
from jobs.paths import SweepPaths
from jobs.planning.sweep import Sweep
from jobs.storage import runrecord
from jobs.storage.events import Attempt, Event, attempt_log, event_log, utc_now
from jobs.storage.lease import Lease
from jobs.storage.ledger import Failure, set_aside
from jobs.storage.runrecord import NodeUse, RunRecord
from jobs.store import Store
from jobs.work.evaluation import read_request

RECORD_INTERVAL = 10.0  # seconds between two versions of the run record
MAX_NOTES = 500  # kept in the run record, the last ones

OUTCOMES: dict[int, runrecord.Outcome] = {0: "done", 1: "failed", 75: "incomplete"}


class RunObserver:
    """The observer of one sweep."""

    def __init__(self, store: Store, sweep: Sweep, lease: Lease, display: Display, record: RunRecord) -> None:
        self._store = store
        self._paths = SweepPaths(sweep.name)
        self._configurations = {item.fingerprint: item for item in sweep.configurations}
        self._lease = lease
        self._display = display
        self._record = record
        self._events = event_log(store, self._paths, record.run_id)
        self._attempts = attempt_log(store, self._paths, record.run_id)
        self._closed = False
        self._unwritten = False  # the last try to write failed
        self.failed = 0  # assignments set aside
        self._saved_at = time.monotonic()

    def name(self, assignment: Assignment) -> str:
        configuration = self._configurations[assignment.fingerprint]
        if assignment.kind != "sample":
            return f"{configuration.name}: {assignment.kind}"
        return f"{configuration.name}: shard [{assignment.first}, {assignment.last})"

    def begin(self, prepared: Prepared) -> None:
        """The work is planned."""
        self._record.shards = prepared.shards
        record = self._record
        self.happened(
            Incident(
                "began",
                f"run began on {record.host}, process {record.pid}: {counted(record.shards, 'shard')} left",
            )
        )
        with self._spared():
            self._events.flush(at_once=True)

    # --- what is said and what happens ------------------------------------------------------------------

    def note(self, text: str) -> None:
        self.remember(text)
        self._display.note(text, {"sweep": self._paths.sweep})

    def remember(self, text: str) -> None:
        """Keep a note that is shown elsewhere."""
        self.record(Incident("note", text))

    def happened(self, incident: Incident) -> None:
        self._display.note(incident.text, self.record(incident))

    def record(self, incident: Incident) -> dict[str, object]:
        """Keep what happened; returns what a log says of it beside its text."""
        if incident.kind not in QUIET:
            self._record.notes = [*self._record.notes, incident.text][-MAX_NOTES:]
        if incident.kind == "joined":
            self._use(incident.node, incident.device).workers += 1
        if incident.kind == "lost" and incident.node:
            self._use(incident.node, incident.device).workers_lost += 1
        event = self._event(incident)
        self._events.add(event)
        known = event.model_dump(exclude_defaults=True, exclude={"at", "text", "first", "last"})
        return {"sweep": self._paths.sweep, **known} | ({"shard": event.shard} if event.shard else {})

    def _event(self, incident: Incident) -> Event:
        assignment = incident.assignment
        sample = assignment if assignment and assignment.kind == "sample" else None
        return Event(
            at=utc_now(),
            kind=incident.kind,
            text=incident.text,
            configuration=self._configurations[assignment.fingerprint].name if assignment else "",
            first=sample.first if sample else None,
            last=sample.last if sample else None,
            worker=incident.worker,
            node=incident.node,
            device=incident.device,
            cause=incident.cause,
            requeued=incident.requeued,
            seconds_lost=round(incident.seconds_lost, 3),
        )

    def attempted(self, attempt: Attempted) -> None:
        assignment, where, receipt = attempt.assignment, attempt.where, attempt.receipt
        node, device = (where.node, where.device) if where else ("", "")
        images, evaluations = (receipt.images, receipt.evaluations) if receipt else (0, 0)
        self._attempts.add(
            Attempt(
                at=utc_now(),
                kind=assignment.kind,
                fingerprint=assignment.fingerprint,
                first=assignment.first,
                last=assignment.last,
                worker=attempt.worker,
                node=node,
                device=device,
                seconds=round(attempt.seconds, 3),
                how=attempt.how,
                cause=attempt.cause,
                images=images,
                evaluations=evaluations,
                seconds_lost=round(attempt.seconds_lost, 3),
            )
        )
        use = self._use(node, device)
        use.attempts += 1
        use.seconds += attempt.seconds
        use.images += images
        use.evaluations += evaluations
        self._record.attempts[attempt.how] = self._record.attempts.get(attempt.how, 0) + 1

    def _use(self, node: str, device: str) -> NodeUse:
        return self._record.nodes.setdefault(node, NodeUse(device=device))

    def finished(self, receipt: Receipt) -> None:
        assignment = receipt.assignment
        for note in receipt.notes:
            self.note(f"{self.name(assignment)}: {note}")
        if assignment.kind == "reduce":
            name = self._configurations[assignment.fingerprint].name
            self.happened(Incident("scored", f"{name} is scored", assignment))

    def set_aside(self, assignment: Assignment, attempts: int, error: str) -> None:
        self.failed += 1
        text = f"{self.name(assignment)} is set aside after {attempts} attempts; the rest goes on"
        self.happened(Incident("set_aside", text, assignment))
        if assignment.kind == "sample":
            samples = range(assignment.first, assignment.last)
            paths = self._paths.configuration(assignment.fingerprint)
            with self._spared():
                set_aside(self._store, paths, Failure(samples, attempts, error))
        else:
            self.note(error)

    def replan(self, assignment: Assignment) -> list[range]:
        configuration = self._configurations[assignment.fingerprint]
        if assignment.request:
            request = read_request(self._store, self._paths.sweep, assignment.request)
            configuration = request.applied(configuration)
        samples = range(assignment.first, assignment.last)
        return shards_left_within(self._store, self._paths.sweep, configuration, samples)

    # --- what is written --------------------------------------------------------------------------------

    def tick(self, account: Account) -> None:
        self._lease.check()
        with self._spared():
            self._events.flush()
            self._attempts.flush()
            if time.monotonic() - self._saved_at >= RECORD_INTERVAL:
                self._saved_at = time.monotonic()
                self.count(account)
                runrecord.save(self._store, self._paths, self._record)

    def count(self, account: Account) -> None:
        """Bring the run record up to date."""
        own = [self._paths.configuration(fingerprint).root for fingerprint in self._configurations]
        tallies = [account.tallies[configuration] for configuration in own]
        self._record.workers = max(self._record.workers, len(account.workers))
        self._record.retries = dict(sum((tally.retries for tally in tallies), Counter()))
        self._record.shards_done = sum(tally.done for tally in tallies)
        self._record.shards_failed = sum(tally.failed for tally in tallies)
        self._record.images = sum(tally.images for tally in tallies)
        self._record.evaluations = sum(tally.evaluations for tally in tallies)
        self._record.seconds = dict(sum((tally.seconds for tally in tallies), Counter()))
        self._record.seconds_lost = sum(tally.seconds_lost for tally in tallies)
        under_way = [run for run in account.running.values() if run.assignment.sweep == self._paths.sweep]
        self._record.under_way = len(under_way)
        self._record.seconds_at_risk = sum(run.at_risk(account.now) for run in under_way)

    def close(self, outcome: Outcome, account: Account) -> None:
        """Write the results if all is done, and how the run ended."""
        self.count(account)
        if outcome.complete:
            from jobs.report import write_report  # draws pictures: only now is it needed

            write_report(self._store, self._paths.sweep)
        self.end(outcome)

    def end(self, outcome: Outcome) -> None:
        """Close the run record and the logs, unless that is done already."""
        if self._closed:
            return
        self._closed = True
        code = outcome.exit_code
        record = self._record
        how = {0: "done", 1: "done but for what was set aside", 75: "incomplete"}[code]
        reason = f" ({outcome.reason})" if outcome.reason else ""
        self.happened(
            Incident(
                "ended",
                f"run ended {how}{reason}: {record.shards_done:,} of {record.shards:,} shards, "
                f"{record.images:,} images",
            )
        )
        with self._spared():
            self._events.flush(at_once=True)
            self._attempts.flush(at_once=True)
            runrecord.end(self._store, self._paths, record, OUTCOMES[code], code)

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """A record that cannot be written is not worth a run; said once, until it can be written again."""
        try:
            yield
            self._unwritten = False
        except OSError as error:
            if not self._unwritten:
                self.note(f"the run record could not be written: {error}")
            self._unwritten = True
