"""A plan as people and as programs read it.

A module of its own, so that planning itself needs no terminal library. It must not compute what
`jobs/plan.py` has not.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.plan import Cost, Costs

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def plan_json(costs: Costs) -> dict[str, Any]:
    """Return the plan as plain data: configurations in order, totals, what is missing, notes."""
    return {
        "sweep": costs.sweep,
        "configurations": [
            {**asdict(cost), "images": cost.images, "total_evaluations": cost.total_evaluations}
            for cost in costs.configurations
        ],
        "totals": _totals(costs),
        "missing": list(costs.missing),
        "notes": list(costs.notes),
    }


def render_plan(costs: Costs) -> RenderableType:
    """Return the plan as a rich table: a line a configuration, then the sums, then what to know."""
    totals = _totals(costs)
    title = f"{costs.sweep}: {totals['configurations']:,} configurations"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    columns = [
        ("configuration", "in all"),
        ("samples", f"{totals['samples']:,}"),
        ("images", f"{totals['images']:,}"),
        ("groups", f"{totals['groups']:,}"),
        ("shards", _shards(totals["left"], totals["shards"])),
        ("NFE", ""),
        ("NFE in all", f"{totals['evaluations']:,}"),
        ("storage", "~" + bytes_text(totals["bytes"])),
    ]
    for number, (header, footer) in enumerate(columns):
        left = number == 0
        table.add_column(header, footer=footer, justify="left" if left else "right", no_wrap=not left)
    for cost in costs.configurations:
        table.add_row(*_cells(cost))
    missing = [Text(f"missing: {sentence}", style="yellow") for sentence in costs.missing]
    return Group(table, *missing, *(Text(f"note: {sentence}") for sentence in costs.notes))


def _cells(cost: Cost) -> list[str]:
    return [
        cost.name,
        f"{cost.samples:,}",
        f"{cost.images:,}",
        f"{cost.groups:,}",
        _shards(cost.left, cost.shards),
        f"{cost.evaluations:,}",
        f"{cost.total_evaluations:,}",
        "~" + bytes_text(cost.image_bytes + cost.feature_bytes),
    ]


def _shards(left: int, shards: int) -> str:
    return f"{shards:,}" if left == shards else f"{left:,} left of {shards:,}"


def _totals(costs: Costs) -> dict[str, int]:
    return {
        "configurations": len(costs.configurations),
        "samples": costs.total(lambda cost: cost.samples),
        "images": costs.total(lambda cost: cost.images),
        "shards": costs.total(lambda cost: cost.shards),
        "left": costs.total(lambda cost: cost.left),
        "groups": costs.total(lambda cost: cost.groups),
        "evaluations": costs.total(lambda cost: cost.total_evaluations),
        "bytes": costs.total(lambda cost: cost.image_bytes + cost.feature_bytes),
    }


def bytes_text(count: float) -> str:
    """Bytes in a unit that reads well: 1.5 MiB."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
