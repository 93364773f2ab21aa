"""SDE families: variance exploding (VE), variance preserving (VP) and sub-VP."""

from sdesampling.sde.base import SDE, ReverseSDE, ScoreFunction, per_sample
from sdesampling.sde.subvp import SubVP
from sdesampling.sde.ve import VE
from sdesampling.sde.vp import VP

SDES: dict[str, type[VE] | type[VP] | type[SubVP]] = {sde.family: sde for sde in (VE, VP, SubVP)}

__all__ = ["SDE", "SDES", "VE", "VP", "ReverseSDE", "ScoreFunction", "SubVP", "per_sample"]
