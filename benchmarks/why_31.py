"""The replication's FIDs beside the paper's, and what too few images alone would make of the paper's.

    python benchmarks/why_31.py [--slope 28000]

Paper: Song et al. 2020, Table 1. Reported: a replication with the same checkpoints. The slope is the bias of
FID on CIFAR-10 in points x images of one side.
"""

from __future__ import annotations

import argparse

import numpy as np

#: (cell, paper, reported); VE, then VP. Corrector-only cells have one value for the column.
CELLS = [
    ("VE ancestral P1000", 4.98, 31.76),
    ("VE ancestral P2000", 4.88, 31.70),
    ("VE ancestral PC1000", 3.62, 30.57),
    ("VE reverse diffusion P1000", 4.79, 31.98),
    ("VE reverse diffusion P2000", 4.74, 31.43),
    ("VE reverse diffusion PC1000", 3.60, 30.96),
    ("VP ancestral P1000", 3.24, 30.55),
    ("VP ancestral P2000", 3.24, 30.53),
    ("VP ancestral PC1000", 3.21, 29.74),
    ("VP reverse diffusion P1000", 3.21, 31.01),
    ("VP reverse diffusion P2000", 3.19, 30.32),
    ("VP reverse diffusion PC1000", 3.18, 30.01),
    ("VE C2000", 20.43, 71.51),
    ("VP C2000", 19.06, 69.68),
]
IMAGES = 1_000  # of the side that is supposed to have too few
PUBLISHED = 50_000  # images behind the paper's values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slope", type=float, default=28_000, help="points x images of one side")
    slope = parser.parse_args().slope
    added = slope * (1 / IMAGES - 1 / PUBLISHED)
    print("| cell | paper | reported | reported - paper | predicted at 1,000 | reported - predicted |")
    print("|---|---|---|---|---|---|")
    for cell, paper, reported in CELLS:
        predicted = paper + added
        print(
            f"| {cell} | {paper:.2f} | {reported:.2f} | {reported - paper:.2f} | {predicted:.1f} | "
            f"{reported - predicted:+.1f} |"
        )
    with_predictor = np.array([row[1:] for row in CELLS if " C2000" not in row[0]])
    differences = with_predictor[:, 1] - with_predictor[:, 0]
    ratios = with_predictor[:, 1] / with_predictor[:, 0]
    gain, offset = np.polyfit(with_predictor[:, 0], with_predictor[:, 1], 1)
    print(
        f"\nwith a predictor: difference {differences.mean():.2f} ± {differences.std(ddof=1):.2f} "
        f"({differences.min():.2f} to {differences.max():.2f}), ratio {ratios.min():.1f} to "
        f"{ratios.max():.1f}, line reported = {gain:.2f} x paper + {offset:.1f}"
    )
    images = slope / (differences + slope / PUBLISHED)
    print(f"images of one side that give these differences: {images.min():,.0f} to {images.max():,.0f}")
    for cell, paper, reported in CELLS[-2:]:
        print(
            f"{cell}: the line gives {gain * paper + offset:.1f}; the slope that gives what was reported is "
            f"{(reported - paper) / added:.2f} times that of the others"
        )


if __name__ == "__main__":
    main()
