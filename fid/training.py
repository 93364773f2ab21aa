"""Training of the feature classifier: cross-entropy with random one-pixel shifts.

A loop of its own because `fid` may not know `sdesampling`; it has the same shape as the loops there (`steps`,
`completed`, `advance`, `state_dict`, `load_state_dict`). It must not know about files or data sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ClassifierSettings:
    """Hyper-parameters of the classifier's training."""

    steps: int
    batch_size: int = 128
    learning_rate: float = 2e-3  # at the first step; half a cosine takes it to zero
    weight_decay: float = 1e-4
    max_shift: int = 1  # pixels; every training image moves by up to this in each direction, zero-padded
    seed: int = 0


class ClassifierTraining:
    """AdamW on cross-entropy; what step i draws is a function of (seed, i) alone, so training can resume.

    Args:
        network: maps images in [0, 1] to (features, logits).
        images: (count, channels, height, width) uint8.
        labels: (count,) int64.
        settings: hyper-parameters.
    """

    def __init__(
        self, network: nn.Module, images: Tensor, labels: Tensor, settings: ClassifierSettings
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(
                f"images must be uint8 (count, channels, height, width), got {images.dtype} "
                f"{tuple(images.shape)}"
            )
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images need as many labels, got shape {tuple(labels.shape)}")
        self.network = network
        self.images = images
        self.labels = labels
        self.settings = settings
        self.steps = settings.steps
        self.completed = 0
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, T_max=settings.steps)

    def advance(self) -> dict[str, float]:
        """One optimiser step; returns the batch's loss and accuracy."""
        settings = self.settings
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed * 1_000_003 + self.completed)
            chosen = torch.randint(len(self.images), (settings.batch_size,))
            batch = shift(self.images[chosen].float() / 255, settings.max_shift)
            self.network.train()
            _, logits = self.network(batch)
        loss = nn.functional.cross_entropy(logits, self.labels[chosen])
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self.completed += 1
        hits = (logits.argmax(dim=1) == self.labels[chosen]).float().mean()
        return {"loss": loss.item(), "accuracy": hits.item()}

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs: plain data and tensors."""
        return {
            "completed": self.completed,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.completed = state["completed"]
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of uint8 images (count, channels, height, width) that the network in eval mode labels rightly."""
    network.eval()
    _, logits = network(images.float() / 255)
    return (logits.argmax(dim=1) == labels).float().mean().item()


def shift(images: Tensor, most: int) -> Tensor:
    """Each image moved by its own whole-pixel offset in [-most, most], zeros coming in."""
    if most == 0:
        return images
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (most, most, most, most))
    rows = torch.randint(2 * most + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(2 * most + 1, (count, 1)) + torch.arange(width)
    index = torch.arange(count)
    moved = padded[
        index[:, None, None], :, rows[:, :, None], columns[:, None, :]
    ]  # (count, height, width, channels)
    return moved.permute(0, 3, 1, 2)
