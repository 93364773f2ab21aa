"""One shard through the sampler, group by group: steps, stages, snapshots, draining.

A module of its own because bits are made here: a group always is the same batch with the same noise, whatever
shard it is in and however often it was interrupted. It must not know how images are stored.
"""

from __future__ import annotations

import time

import torch

from jobs.compute.assignment import Context, Drained
from jobs.planning.plan import groups
from jobs.specs.configuration import Configuration
from jobs.storage.images import BadImagesError, quantise
from jobs.storage.snapshots import Progress, Snapshots
from sdesampling.noise import NoiseStream
from sdesampling.samplers import NonFiniteStateError, Sampler, State

MAX_NOTES = 3  # of a kind
INTERVAL = 60.0  # seconds between snapshots, where the spec says nothing
SHARE = 0.005  # of the time that snapshots may take then
PACE = 100 * 2**20  # bytes of state a second that are counted on before a snapshot was timed
CHECKED = 16  # steps on a GPU between looks at whether all numbers are finite


class ShardSampling:
    """The groups of one shard on their way. `evaluations` counts what this attempt spent, times images."""

    def __init__(
        self,
        configuration: Configuration,
        samples: range,
        sampler: Sampler,
        snapshots: Snapshots,
        context: Context,
        device: torch.device,
        saving: dict[str, float],
    ) -> None:
        """saving: fingerprint -> seconds that this worker's last snapshot of a state took; changed here."""
        self.configuration = configuration
        self.groups = list(groups(samples, configuration.group_size))
        self.evaluations = 0
        self.notes: list[str] = []
        self._sampler = sampler
        self._snapshots = snapshots
        self._context = context
        self._device = device
        self._images = 0  # finished
        self._unsaved: list[Progress] = []  # finished groups that no snapshot holds
        self._saved_at = time.monotonic()
        self._saving = saving

    def run(self) -> list[Progress]:
        """All groups, finished, in order.

        Raises Drained when the context asks for it, after everything is snapshotted, and BadImagesError when
        the sampler diverges.
        """
        found, ignored = self._snapshots.load(self.groups)
        self.notes = _notes(list(found.values()), ignored)
        done = []
        for group in self.groups:
            progress = found.get(group)
            if progress is None:
                progress = self._begin(group)
            else:
                self._resume(progress)
            if not progress.finished:
                self._advance(progress)
                self._unsaved.append(progress)
            self._images += len(group)
            self._context.progress(self._images, self.evaluations)
            done.append(progress)
        return done

    def _begin(self, group: range) -> Progress:
        self._pause([])
        with torch.no_grad():
            return Progress(group, self._sampler.init(self._noise(group)))

    def _resume(self, progress: Progress) -> None:
        state = progress.state
        tensors = {name: tensor.to(self._device) for name, tensor in state.tensors.items()}
        progress.state = State(state.step, tensors, state.evaluations)

    def _advance(self, progress: Progress) -> None:
        """Make the steps that are left of a group."""
        noise = self._noise(progress.group)
        began = time.perf_counter()
        while True:
            self._keep_stage(progress)
            if progress.state.step == self._sampler.steps:
                break
            now = time.perf_counter()
            progress.seconds += now - began
            self._pause([progress])
            began = time.perf_counter()
            before = progress.state.evaluations
            with torch.no_grad():
                progress.state = self._sampler.step(progress.state, noise)
            self.evaluations += (progress.state.evaluations - before) * len(progress.group)
            self._check_finite(progress)
            self._context.progress(self._images, self.evaluations)
        progress.diagnostics = self._sampler.diagnostics(progress.state)
        progress.state = State(progress.state.step, {}, progress.state.evaluations)
        progress.finished = True
        progress.seconds += time.perf_counter() - began

    def _check_finite(self, progress: Progress) -> None:
        """Raise BadImagesError where numbers are not finite. A GPU has to wait, so it is asked seldom."""
        step = progress.state.step
        if self._device.type != "cpu" and step % CHECKED and step < self._sampler.steps:
            return
        try:
            self._sampler.check_finite(progress.state)
        except NonFiniteStateError as error:
            raise BadImagesError(f"{self._where(progress)}: {error}") from error

    def _keep_stage(self, progress: Progress) -> None:
        """Quantise the images of this step if the configuration keeps them."""
        step = progress.state.step
        if step not in self.configuration.stages or step in progress.pixels:
            return
        with torch.no_grad():
            images = self._sampler.finish(progress.state)
        pixels, clipped = quantise(
            images,
            self.configuration.quantisation,
            self._where(progress),
            final=step == self._sampler.steps,
        )
        progress.pixels[step] = pixels.cpu()
        progress.clipped[step] = clipped

    def _pause(self, running: list[Progress]) -> None:
        """Between two steps: snapshot when it is time, snapshot and give up when asked to."""
        stopping = self._context.should_stop()
        began = time.monotonic()
        if stopping or self._due(began - self._saved_at, running):
            for progress in [*self._unsaved, *running]:
                self._snapshots.save(progress)
            self._unsaved.clear()
            self._saved_at = time.monotonic()
            if running:  # pixels alone are written sooner
                self._saving[self.configuration.fingerprint] = self._saved_at - began
            self._context.saved()
        if stopping:
            raise Drained(f"stopped at sample {self.groups[0].start + self._images} as asked")

    def _due(self, elapsed: float, running: list[Progress]) -> bool:
        """Whether it is time for a snapshot, so many seconds after the last one. Asked after every step."""
        if self.configuration.snapshot_every:
            return elapsed >= self.configuration.snapshot_every
        return elapsed >= INTERVAL and elapsed >= self._cost(running) / SHARE

    def _cost(self, running: list[Progress]) -> float:
        """Seconds that a snapshot is likely to take: as the last one here, or by the size of the state."""
        size = sum(
            tensor.nbytes
            for progress in [*self._unsaved, *running]
            for tensor in [*progress.state.tensors.values(), *progress.pixels.values()]
        )
        return self._saving.get(self.configuration.fingerprint, size / PACE)

    def _noise(self, group: range) -> NoiseStream:
        return NoiseStream(self.configuration.seed, self.configuration.replicate, group, self._device)

    def _where(self, progress: Progress) -> str:
        group = progress.group
        return (
            f"{self.configuration.name} ({self.configuration.fingerprint[:12]}), "
            f"samples [{group.start}, {group.stop}), step {progress.state.step}"
        )


def _notes(found: list[Progress], ignored: list[str]) -> list[str]:
    """What was found in snapshots, in a few lines however many there are."""
    finished = sum(progress.finished for progress in found)
    notes = [f"groups found finished in snapshots: {finished}"] if finished else []
    notes += [
        f"group [{progress.group.start}, {progress.group.stop}) resumed from a snapshot at step "
        f"{progress.state.step}"
        for progress in found
        if not progress.finished
    ][:MAX_NOTES]
    return notes + ignored[:MAX_NOTES]
