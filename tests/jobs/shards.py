"""A configuration with a sampler whose score is known in closed form, and a feature network of plain sums."""

import time

import torch

from fid.extractors import Features
from jobs.compute.assignment import Assignment
from jobs.compute.worker import WorkerState
from jobs.digests import add_digests
from jobs.models import build
from jobs.paths import SweepPaths, extractor_key
from jobs.planning.plan import plan
from jobs.specs.configuration import Configuration, Extractor, Model
from jobs.specs.samplers import PredictorCorrector
from jobs.specs.sections import Resources
from jobs.storage.features import committed_features
from jobs.storage.images import committed_images
from jobs.storage.ledger import scan
from jobs.store_local import LocalStore
from jobs.work.perform import perform
from sdesampling.analytic import GaussianNetwork
from sdesampling.sde import VE

EXTRACTOR = Extractor(name="sums", weights="b" * 64, dimension=4)
KEY = extractor_key(EXTRACTOR.name, EXTRACTOR.weights)


def configuration(**changes):
    values = {
        "sweep": "sweep",
        "row": "reverse diffusion",
        "column": "PC8",
        "model": Model(
            name="gaussian", family="score", shape=(1, 4, 4), weights={"model": "a" * 64}, sde="ve"
        ),
        "sampler": PredictorCorrector(
            kind="predictor_corrector", predictor="reverse_diffusion", corrector="langevin", steps=8
        ),
        "seed": 1,
        "replicate": 0,
        "group_size": 8,
        "stages": (3, 8),
        "precision": "float32",
        "quantisation": "floor",
        "samples": 24,
        "shard_size": 16,
        "extractors": (EXTRACTOR,),
        "references": (),
        "metrics": ("fid",),
        "snapshot_every": 1000.0,
        "priority": 0,
        "resources": Resources(),
        "published": (),
    }
    return Configuration(**(values | changes))


CONFIGURATION = configuration()


class Sums:
    """Row sums of an image."""

    name = "sums"
    dimension = 4

    def __init__(self):
        self.identity = {}
        self.images = 0

    def __call__(self, images):
        self.images += len(images)
        return Features(images.float().sum(dim=(1, 2)), None)


class Worker(WorkerState):
    """Samples from a Gaussian around 1/2; counts what it loads."""

    def __init__(self, mean=0.5, pause=0.0):
        super().__init__()
        self.sums = Sums()
        self.samplers = 0
        self._mean = mean
        self._pause = pause

    def sampler(self, store, configuration):
        self.samplers += 1
        sde = VE(sigma_min=0.01, sigma_max=5.0, N=8)
        network = GaussianNetwork(sde, torch.full((1, 4, 4), self._mean), torch.full((1, 4, 4), 0.2))
        sampler = build.sampler_of(configuration, network.model())
        step = sampler.step

        def slow(state, noise):
            time.sleep(self._pause)
            return step(state, noise)

        sampler.step = slow
        return sampler

    def extractor(self, store, extractor):
        return self.sums


class Context:
    """Asks to stop after so many questions."""

    def __init__(self, stop_after=None):
        self.questions = 0
        self.reports = []
        self.saves = 0
        self._stop_after = stop_after

    def should_stop(self):
        self.questions += 1
        return self._stop_after is not None and self.questions > self._stop_after

    def progress(self, images, evaluations):
        self.reports.append((images, evaluations))

    def saved(self):
        self.saves += 1


def paths(configuration):
    return SweepPaths(configuration.sweep).configuration(configuration.fingerprint)


PATHS = paths(CONFIGURATION)


def prepare(store, configuration):
    store.put(paths(configuration).spec, configuration.to_json().encode())


def sample(store, configuration, samples, worker=None, context=None):
    assignment = Assignment("sample", "sweep", configuration.fingerprint, samples.start, samples.stop)
    return perform(assignment, store, worker or Worker(), context or Context())


def perform_slowly(root, first, last, pause):
    """One shard of a prepared store, in a process that may be killed."""
    torch.set_num_threads(1)
    store = LocalStore(root)
    sample(store, configuration(), range(first, last), Worker(pause=pause))


def new_store(root, chosen=CONFIGURATION):
    store = LocalStore(root)
    prepare(store, chosen)
    return store


def run_all(store, chosen=CONFIGURATION):
    for shard in plan(chosen, scan(store, paths(chosen), [KEY]).done):
        sample(store, chosen, shard)


def outcome(store, chosen=CONFIGURATION):
    """Digests of all pixels and all features, from the files."""
    where = paths(chosen)
    ledger = scan(store, where, [KEY])
    assert not ledger.damaged
    images = [block for m in ledger.images for block in committed_images(store, where.images, m)]
    features = [
        block for m in ledger.features[KEY] for block in committed_features(store, where.features(KEY), m)
    ]
    count = sum(len(block.index) for block in images)
    return add_digests(b.digest for b in images), add_digests(b.digest for b in features), count
