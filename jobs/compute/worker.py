"""What a worker keeps between assignments, and where it computes: loaded models, extractors, the device.

A module of its own because results depend on it only through the execution identity that it states.
It must not know assignments, nor how a worker is started.
"""

from __future__ import annotations

import os
from functools import partial

import torch

from fid.extractors import Extractor as FeatureExtractor
from jobs.compute.extraction import BATCH
from jobs.fingerprint import canonical_json
from jobs.inputs.copies import read_sent
from jobs.models import build
from jobs.models.plugins import provide_extractor, provide_networks
from jobs.models.weights import weights_of
from jobs.paths import SweepPaths
from jobs.planning.submission import MAX_MICRO_BATCH
from jobs.specs.configuration import Configuration, Extractor
from jobs.storage.commit import Execution
from jobs.store import Store
from sdesampling import noise, samplers
from sdesampling.samplers import Sampler


class WorkerState:
    """Keeps the last configuration and its sampler, the model that it samples from, and every extractor.

    The number of torch threads is set by whoever starts the worker, and stated here.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda":  # the same bits every time, and float32 means float32
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        self.saving: dict[str, float] = {}  # seconds that the last snapshot took, by configuration
        self._configuration: Configuration | None = None
        self._sampler: tuple[str, Sampler] | None = None
        self._source: tuple[str, build.Source] | None = None
        self._extractors: dict[str, FeatureExtractor] = {}
        self._largest: dict[str, int] = {}  # micro-batch that memory sufficed for, by model, once it did not

    def configuration(self, store: Store, sweep: str, fingerprint: str) -> Configuration:
        """Read a configuration from its spec.json.

        Raises FileNotFoundError when it is not there, and ValueError when it has another fingerprint.
        """
        if self._configuration is None or self._configuration.fingerprint != fingerprint:
            name = SweepPaths(sweep).configuration(fingerprint).spec
            found = Configuration.from_json(store.get(name))
            if found.fingerprint != fingerprint:
                raise ValueError(f"{name} has the fingerprint {found.fingerprint}: it was altered; run again")
            self._configuration = found
        return self._configuration

    def sampler(self, store: Store, configuration: Configuration) -> Sampler:
        """The configuration's sampler; model and sampler are loaded unless they are the last ones."""
        if self._sampler is None or self._sampler[0] != configuration.fingerprint:
            source = self._load_source(store, configuration)
            sampler = build.sampler_of(configuration, source, partial(read_sent, store))
            self._sampler = (configuration.fingerprint, sampler)
        return self._sampler[1]

    def extractor(self, store: Store, extractor: Extractor) -> FeatureExtractor:
        """The feature network, loaded once."""
        key = canonical_json(extractor.model_dump())
        if key not in self._extractors:
            with weights_of(store) as weights:
                self._extractors[key] = build.build_extractor(extractor, weights, self.device)
        return self._extractors[key]

    def execution(self, configuration: Configuration) -> Execution:
        """What the bits of this configuration's images depend on beside itself."""
        plugins = provide_networks(configuration.model.plugins)
        return self._execution(self._micro_batch(configuration), configuration.arithmetic, plugins)

    def halve_micro_batch(self, configuration: Configuration) -> bool:
        """After memory was short: from now on this model gets half as much at once, here. False at 1."""
        micro_batch = self._micro_batch(configuration)
        if micro_batch == 1:
            return False
        self._largest[_model_key(configuration)] = micro_batch // 2
        self._source = self._sampler = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def extraction(self, extractor: Extractor) -> Execution:
        """What the bits of features depend on beside images and extractor."""
        plugin = provide_extractor(extractor.name)
        versions = {} if plugin is None else {extractor.name: f"{plugin.package} {plugin.version}"}
        return self._execution(BATCH, "float32", versions)

    def _load_source(self, store: Store, configuration: Configuration) -> build.Source:
        micro_batch = self._micro_batch(configuration)
        if configuration.precision == "auto":
            raise ValueError(f"{configuration.name}: precision auto was not decided; submit the sweep again")
        key = canonical_json(
            {
                "model": configuration.model.identity,
                "micro_batch": micro_batch,
                "precision": configuration.arithmetic,
            }
        )
        if self._source is None or self._source[0] != key:
            self._source = self._sampler = None  # free the memory before it is needed again
            with weights_of(store) as weights:
                source = build.build_model(
                    configuration.model,
                    weights,
                    self.device,
                    micro_batch,
                    configuration.precision,
                    configuration.float32_below,
                    partial(read_sent, store),
                )
            self._source = (key, source)
        return self._source[1]

    def _micro_batch(self, configuration: Configuration) -> int:
        """Samples that pass through a network together, never more than a group."""
        asked = configuration.resources.micro_batch or MAX_MICRO_BATCH
        largest = self._largest.get(_model_key(configuration), asked)
        return min(asked, largest, configuration.group_size)

    def _execution(self, micro_batch: int, precision: str, plugins: dict[str, str]) -> Execution:
        if self.device.type == "cuda":
            device = torch.cuda.get_device_name(self.device)
        else:
            device = f"{self.device.type} {torch.backends.cpu.get_cpu_capability()}"
        return Execution(
            device=device,
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            micro_batch=micro_batch,
            precision=precision,
            sampler_version=f"{samplers.VERSION} ({noise.VERSION})",
            plugins=plugins,
        )


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an exception of PyTorch says that there was not enough memory, of the device or of the host."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)  # PyTorch's on the CPU is a bare RuntimeError


def _model_key(configuration: Configuration) -> str:
    return canonical_json(configuration.model.identity)


def best_device() -> str:
    """`cuda` where there is a GPU, else `cpu`: for work in the process of a command."""
    return "cuda" if torch.cuda.is_available() else "cpu"
