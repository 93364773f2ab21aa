"""Class-conditional sampling: any sampler of a conditional model, with a class for every sample.

The class of a sample is a function of its index alone, so classes are balanced in every run of samples and no
result depends on how the work is cut up.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from sdesampling.latent import LatentDecoder
from sdesampling.noise import Noise
from sdesampling.samplers.base import Sampler, State
from sdesampling.score import ScoreModel


class ClassConditional(Sampler):
    """The images of another sampler, sample k being of class classes[k mod len(classes)].

    sampler: asks `model` with the classes that are set in it for the time of a call.
    classes: numbers of classes in the order in which they are taken.

    Raises ValueError for models without classes, for classes that a model does not have, and for chains of
    several images.
    """

    def __init__(self, sampler: Sampler, model: ScoreModel | LatentDecoder, classes: Sequence[int]) -> None:
        if model.classes is None:
            raise ValueError(f"classes = {list(classes)}: the model is not class-conditional")
        wrong = [number for number in classes if not 0 <= number < model.classes]
        if wrong or not classes:
            raise ValueError(f"classes = {list(classes)}: must be among 0 to {model.classes - 1}, and some")
        if len(sampler.chains(2).unique()) < 2:
            raise ValueError("classes: are not there for chains or paths of several images")
        self.sampler = sampler
        self.model = model
        self.classes = tuple(classes)
        self.kind = sampler.kind
        self.steps = sampler.steps

    def class_labels(self, indices: range) -> Tensor:
        return torch.tensor(self.classes)[torch.tensor(list(indices)) % len(self.classes)]

    def init(self, noise: Noise) -> State:
        classes = self.class_labels(noise.indices).to(self.model.device)
        with self._told(classes):
            return self._with_classes(self.sampler.init(noise), classes)

    def step(self, state: State, noise: Noise) -> State:
        classes = state.tensors["classes"]
        with self._told(classes):
            return self._with_classes(self.sampler.step(self._without_classes(state), noise), classes)

    def finish(self, state: State) -> Tensor:
        with self._told(state.tensors["classes"]):
            return self.sampler.finish(self._without_classes(state))

    def diagnostics(self, state: State) -> dict[str, float]:
        return self.sampler.diagnostics(self._without_classes(state))

    def check_finite(self, state: State) -> None:
        self.sampler.check_finite(state)

    @contextmanager
    def _told(self, classes: Tensor) -> Iterator[None]:
        self.model.class_labels = classes
        try:
            yield
        finally:
            self.model.class_labels = None

    @staticmethod
    def _with_classes(state: State, classes: Tensor) -> State:
        return State(state.step, {**state.tensors, "classes": classes}, state.evaluations)

    @staticmethod
    def _without_classes(state: State) -> State:
        tensors = {name: tensor for name, tensor in state.tensors.items() if name != "classes"}
        return State(state.step, tensors, state.evaluations)
