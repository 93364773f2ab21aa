"""A plan as people and as programs read it.

A module of its own, so that planning itself needs no terminal library. It must not compute what
`jobs/planning/plan.py` has not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.planning.plan import Cost, Costs

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def plan_json(costs: Costs) -> dict[str, Any]:
    """Return the plan as plain data: configurations in order, totals, what is missing, notes."""
    return {
        "sweep": costs.sweep,
        "configurations": [
            {**asdict(cost), "images": cost.images, "total_evaluations": cost.total_evaluations}
            for cost in costs.configurations
        ],
        "totals": _sums(costs.configurations),
        "missing": list(costs.missing),
        "notes": list(costs.notes),
    }


def render_plan(costs: Costs) -> RenderableType:
    """Return the plan as a rich table: a line a cell, replicates summed; then what is missing, and notes."""
    totals = _sums(costs.configurations)
    with_stages = totals["images"] != totals["samples"]
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, padding=(0, 1, 0, 0), pad_edge=False)
    headers = ["", "samples", "images", "groups", "shards", "NFE", "NFE in all", "storage"]
    for header, footer in zip(headers, _line("in all", None, totals), strict=True):
        if header != "images" or with_stages:
            left = header == ""
            table.add_column(header, footer=footer, justify="left" if left else "right", no_wrap=not left)
    for row, cells in itertools.groupby(costs.configurations, key=lambda cost: cost.row):
        table.add_row(Text(row, style="bold"))
        for column, group in itertools.groupby(cells, key=lambda cost: cost.column):
            replicates = list(group)
            times = f" x{len(replicates)}" if len(replicates) > 1 else ""
            line = _line(f"  {column}{times}", replicates[0].evaluations, _sums(replicates))
            if replicates[0].shared:
                line = [f"  {column}{times}", f"as {replicates[0].shared}"]
            table.add_row(*(line if with_stages else [*line[:2], *line[3:]]))
    missing = [Text(f"missing: {sentence}", style="yellow") for sentence in costs.missing]
    notes = [Text(f"note: {sentence}") for sentence in costs.notes]
    return Group(
        Text(f"{costs.sweep}: {totals['configurations']:,} configurations"),
        table,
        Text("NFE: network evaluations for each sample; in all: times samples", style="dim"),
        *missing,
        *notes,
    )


def _line(label: str, evaluations: int | None, sums: dict[str, int]) -> list[str]:
    return [
        label,
        f"{sums['samples']:,}",
        f"{sums['images']:,}",
        f"{sums['groups']:,}",
        _shards(sums["left"], sums["shards"]),
        "" if evaluations is None else f"{evaluations:,}",
        count_text(sums["evaluations"]),
        "~" + bytes_text(sums["bytes"]),
    ]


def _shards(left: int, shards: int) -> str:
    return f"{shards:,}" if left == shards else f"{left:,}/{shards:,} left"


def _sums(cells: Sequence[Cost]) -> dict[str, int]:
    """Sums over the cells that share the images of no other."""
    costs = [cost for cost in cells if not cost.shared]
    return {
        "configurations": len(costs),
        "samples": sum(cost.samples for cost in costs),
        "images": sum(cost.images for cost in costs),
        "shards": sum(cost.shards for cost in costs),
        "left": sum(cost.left for cost in costs),
        "groups": sum(cost.groups for cost in costs),
        "evaluations": sum(cost.total_evaluations for cost in costs),
        "bytes": sum(cost.image_bytes + cost.feature_bytes for cost in costs),
    }


def count_text(count: float) -> str:
    """A count in digits up to a million, then rounded: 9,216; 2.56 M; 9 G."""
    if count < 1e6:
        return f"{count:,.0f}"
    power = min(int(math.log10(count) / 3), 5)
    return f"{count / 1000**power:.4g} {'kMGTP'[power - 1]}"


def bytes_text(count: float) -> str:
    """Bytes in a unit that reads well: 1.5 MiB."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
