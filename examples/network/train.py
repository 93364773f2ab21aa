"""Trains the example's network on scikit-learn's digits at 28x28 and saves a plain state dict."""

from __future__ import annotations

import argparse

import torch
from example_mnist_unet import MnistUNet
from sklearn.datasets import load_digits
from torch import Tensor

SCALES, BETA_FIRST, BETA_LAST = 500, 1e-4, 0.04


def digits() -> Tensor:
    """(1797, 1, 28, 28) in [-1, 1]."""
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    return 2 * torch.nn.functional.interpolate(images, (28, 28), mode="bilinear") - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", default="unet.pth")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    data, network = digits(), MnistUNet(28, 1)
    kept = torch.cumprod(1 - torch.linspace(BETA_FIRST, BETA_LAST, SCALES), dim=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(arguments.steps):
        x = data[torch.randint(len(data), (64,))]
        labels, noise = torch.randint(SCALES, (len(x),)), torch.randn_like(x)
        signal = kept[labels][:, None, None, None]
        loss = (network(signal.sqrt() * x + (1 - signal).sqrt() * noise, labels) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item():.4f}")
    torch.save(network.state_dict(), arguments.out)


if __name__ == "__main__":
    main()
