"""Correctors by name. `none` is the absence of a corrector, so it has no class."""

from sdesampling.correctors.annealed_langevin import AnnealedLangevin
from sdesampling.correctors.base import Corrector
from sdesampling.correctors.langevin import Langevin

CORRECTORS: dict[str, type[Corrector]] = {
    corrector.name: corrector for corrector in (Langevin, AnnealedLangevin)
}

__all__ = ["CORRECTORS", "AnnealedLangevin", "Corrector", "Langevin"]
