"""Names of everything in a store: the only place that knows them.

Names are relative to the store's root, with forward slashes, whatever the store is made of.
This module knows no store and no file system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SPAN = 262_144  # samples whose shards share a folder; also the most samples that one shard may hold

_MARKER = re.compile(r"(?:.*/)?(\d{12})-(\d{12})\.json")
_LEASE = re.compile(r".*/lease/(\d{8})\.(?:json|heartbeat)")
_STEM = re.compile(r"(.*/)?\d{12}-\d{12}(?=[-.])")
_ATTEMPT = re.compile(r"(?:.*/)?(\d{12})-(\d{12})-([0-9a-f]{32})\.[a-z]+")


def range_name(samples: range) -> str:
    """`<first>-<last>` (last exclusive), padded so that names sort as numbers.

    Raises ValueError for an empty range, one with a step, or one of more than SPAN samples.
    """
    if samples.step != 1 or samples.start < 0 or not 0 < len(samples) <= SPAN or samples.stop >= 10**12:
        raise ValueError(
            f"{samples} cannot name a shard: it must hold 1 to {SPAN:,} samples in a row; change shard_size"
        )
    return f"{samples.start:012d}-{samples.stop:012d}"


def marker_range(name: str) -> range | None:
    """The samples that a marker's name stands for, or None when the name is not a marker's."""
    match = _MARKER.fullmatch(name)
    return range(int(match[1]), int(match[2])) if match else None


def lease_epoch(name: str) -> int | None:
    """The epoch that a file of a lease or its heartbeat is of, or None."""
    match = _LEASE.fullmatch(name)
    return int(match[1]) if match else None


def attempt_range(name: str) -> tuple[range, str] | None:
    """The samples and the attempt that a data file's name stands for, or None."""
    match = _ATTEMPT.fullmatch(name)
    return (range(int(match[1]), int(match[2])), match[3]) if match else None


def range_stem(name: str) -> str | None:
    """What the names of a range's marker and of all attempts at it begin with, or None for other names."""
    match = _STEM.match(name)
    return match[0] if match else None


def range_root(name: str) -> str:
    """The folder of the configuration or data set that a committed file of features or images belongs to."""
    return name.rsplit("/features/", 1)[0].rsplit("/images/", 1)[0]


def quarantined(root: str, name: str, incident: str) -> str:
    """Where a damaged file below `root` goes; `incident` keeps two of the same name apart."""
    return f"{root}/quarantine/{incident}/{name.removeprefix(f'{root}/')}"


def quarantine_record(root: str, incident: str) -> str:
    """What is said of an incident."""
    return f"{root}/quarantine/{incident}/incident.json"


def extractor_key(name: str, weights: str) -> str:
    """Folder of an extractor's features: its name and its weights' sha256, shortened."""
    return f"{name}-{weights[:12]}"


@dataclass(frozen=True)
class RangeFolder:
    """A folder of files that are named by sample ranges, cut into subfolders of SPAN samples each.

    The subfolder of a range is that of its first sample, so a name follows from the range alone and no
    folder grows beyond what file systems list quickly.
    """

    root: str

    def _subfolder(self, first: int) -> str:
        return f"{self.root}/{first // SPAN:06d}"

    def marker(self, samples: range) -> str:
        """The marker that says that a range is done."""
        return f"{self._subfolder(samples.start)}/{range_name(samples)}.json"

    def attempt(self, samples: range, attempt: str, suffix: str) -> str:
        """The file that one attempt writes; `attempt` is 32 hexadecimal digits, new for every attempt."""
        return f"{self._subfolder(samples.start)}/{range_name(samples)}-{attempt}.{suffix}"

    def beside(self, marker_name: str, file: str) -> str:
        """The full name of a file that a marker names."""
        return f"{marker_name.rpartition('/')[0]}/{file}"

    def neighbours(self, samples: range) -> list[str]:
        """The subfolders in which ranges that overlap `samples` can be."""
        first = max(0, samples.start // SPAN - 1)
        return [f"{self.root}/{number:06d}" for number in range(first, (samples.stop - 1) // SPAN + 1)]


@dataclass(frozen=True)
class ConfigurationPaths:
    """Names of one configuration of a sweep."""

    root: str  # <sweep>/<fingerprint>

    @property
    def spec(self) -> str:
        return f"{self.root}/spec.json"

    @property
    def images(self) -> RangeFolder:
        return RangeFolder(f"{self.root}/images")

    @property
    def features_folder(self) -> str:
        """Where each extractor has a folder of its own."""
        return f"{self.root}/features"

    def features(self, extractor: str) -> RangeFolder:
        """Feature files of one extractor, named by its key (name and hash of its identity)."""
        return RangeFolder(f"{self.features_folder}/{extractor}")

    @property
    def snapshots(self) -> RangeFolder:
        return RangeFolder(f"{self.root}/snapshots")

    @property
    def failed(self) -> RangeFolder:
        """Records of shards that were set aside, each under the name of its range's marker."""
        return RangeFolder(f"{self.root}/failed")

    @property
    def results_folder(self) -> str:
        return f"{self.root}/results"

    def result(self, extractor: str, reference: str) -> str:
        return f"{self.results_folder}/{extractor}-{reference}.json"


@dataclass(frozen=True)
class SweepPaths:
    """Names of one sweep."""

    sweep: str

    @property
    def written(self) -> str:
        """The spec as the user wrote it."""
        return f"{self.sweep}/sweep.yaml"

    @property
    def resolved(self) -> str:
        """The sweep as it was resolved."""
        return f"{self.sweep}/sweep.json"

    def configuration(self, fingerprint: str) -> ConfigurationPaths:
        return ConfigurationPaths(f"{self.sweep}/{fingerprint}")

    @property
    def lease_folder(self) -> str:
        return f"{self.sweep}/lease"

    def lease(self, epoch: int) -> str:
        """Who holds the lease in this epoch; never changes once written."""
        return f"{self.lease_folder}/{epoch:08d}.json"

    def heartbeat(self, epoch: int) -> str:
        return f"{self.lease_folder}/{epoch:08d}.heartbeat"

    @property
    def runs_folder(self) -> str:
        return f"{self.sweep}/runs"

    def run(self, run_id: str) -> str:
        return f"{self.runs_folder}/{run_id}.json"

    def events_folder(self, run_id: str) -> str:
        return f"{self.sweep}/events/{run_id}"

    def events(self, run_id: str, number: int) -> str:
        """A part of the log of what happened in a run."""
        return f"{self.events_folder(run_id)}/{number:08d}.jsonl"

    def attempts_folder(self, run_id: str) -> str:
        return f"{self.sweep}/attempts/{run_id}"

    def attempts(self, run_id: str, number: int) -> str:
        """A part of the log of the attempts of a run."""
        return f"{self.attempts_folder(run_id)}/{number:08d}.jsonl"

    @property
    def results(self) -> str:
        return f"{self.sweep}/results.json"

    def evaluation(self, digest: str) -> str:
        """What was asked by `evaluate` beyond the sweep's own scores."""
        return f"{self.sweep}/evaluations/{digest}.json"

    def report(self, file: str) -> str:
        return f"{self.sweep}/report/{file}"


PROBES = "probes"  # folder of the files by which a store is tried out
QUEUES = "queues"  # folder of the orders of sweeps

#: Folders of the store that sweeps share, so no sweep can be called so.
SHARED_FOLDERS = ("models", "references", "datasets", "likelihoods", QUEUES, PROBES)


@dataclass(frozen=True)
class StorePaths:
    """Names that sweeps share."""

    def queue(self, name: str) -> str:
        """In which order sweeps are served that are run together."""
        return f"{QUEUES}/{name}.json"

    def trial(self, name: str) -> str:
        """A file that is written to try a store out, and removed again."""
        return f"{PROBES}/{name}"

    def weights(self, sha256: str) -> str:
        """Weights of a model or an extractor, in whatever format they came."""
        return f"models/{sha256}"

    def images(self, content: str) -> str:
        """Images of a data set that were sent from another machine, by the hash of their content."""
        return f"datasets/{content}.npz"

    def likelihood(self, fingerprint: str, number: int, images: range) -> str:
        """Bits of some images in one pass over a data set; `fingerprint` is that of what was asked."""
        return f"likelihoods/{fingerprint}/{number}-{images.start}-{images.stop}.json"

    def reference_index(self, name: str, source: str) -> str:
        """Which content a data set had when its features were built; `source` is a hash of its path."""
        return f"references/index/{name}-{source[:12]}.json"

    def reference(self, name: str, content_hash: str) -> str:
        """Folder of a data set; the content hash keeps versions of the data apart."""
        return f"references/{name}-{content_hash[:12]}"

    def reference_moments_folder(self, name: str, content_hash: str) -> str:
        return f"{self.reference(name, content_hash)}/moments"

    def reference_moments(self, name: str, content_hash: str, extractor: str) -> str:
        """Mean and scatter of a data set's features by the extractor with this key."""
        return f"{self.reference_moments_folder(name, content_hash)}/{extractor}.npz"

    def reference_features_folder(self, name: str, content_hash: str) -> str:
        return f"{self.reference(name, content_hash)}/features"

    def reference_features(self, name: str, content_hash: str, extractor: str) -> RangeFolder:
        """Features of a data set by the extractor with this key."""
        return RangeFolder(f"{self.reference_features_folder(name, content_hash)}/{extractor}")
