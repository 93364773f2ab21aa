"""What workers need, and where it fits: the arithmetic that decides before a run and while it grows."""

from __future__ import annotations

import pytest

from cluster.demand import GIB, Demand, Machine, describe_machines, matches
from jobs.specs.sections import Resources

PLAIN = Machine({"CPU": 8.0, "memory": 16.0 * GIB}, {})
H100 = Machine({"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * GIB}, {"kind": "H100", "zone": "a"})
A100 = Machine({"CPU": 16.0, "GPU": 8.0, "memory": 64.0 * GIB}, {"kind": "A100", "zone": "b"})


@pytest.mark.parametrize(
    ("demand", "room"),
    [
        (Demand(), (8, 16, 16)),
        (Demand(cpus=3.0), (2, 5, 5)),
        (Demand(gpus=1.0), (0, 2, 8)),
        (Demand(cpus=0.1, gpus=0.1), (0, 20, 80)),
        (Demand(cpus=1.0, gpus=0.25), (0, 8, 16)),
        (Demand(memory=10 * GIB), (1, 6, 6)),
        (Demand(gpus=1.0, selectors=({"kind": "H100"},)), (0, 2, 0)),
        (Demand(gpus=1.0, selectors=({"kind": "H100"}, {"kind": "A100"})), (0, 2, 8)),
        (Demand(selectors=({"kind": "!H100"},)), (8, 0, 16)),
    ],
)
def test_room_is_counted_machine_by_machine(demand, room):
    assert tuple(map(demand.room_on, (PLAIN, H100, A100))) == room
    assert demand.room([PLAIN, H100, A100]) == sum(room)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [("H100", True), ("A100", False), ("!A100", True), ("in(A100, H100)", True), ("!in(A100,H100)", False)],
)
def test_label_conditions(condition, expected):
    assert matches(H100.labels, {"kind": condition}) is expected
    assert matches({}, {"kind": condition}) is condition.startswith("!")


@pytest.mark.parametrize(
    ("workers", "wanted"),
    [
        ("auto", {0: 1, 3: 3, 50: 20}),
        (4, {0: 4, 3: 4, 50: 4}),
        ({"min": 2}, {0: 2, 3: 3, 50: 20}),
        ({"max": 5}, {0: 5, 3: 5, 50: 5}),
        ({"min": 2, "max": 5}, {0: 5, 3: 5, 50: 5}),
        ({"min": 30}, {0: 20, 50: 20}),
        ({"max": 30}, {0: 20, 3: 20, 50: 20}),
    ],
)
def test_how_many_are_asked_for_follows_room_work_and_bounds(workers, wanted):
    demand = Demand.of(Resources.model_validate({"workers": workers}))
    assert {room: demand.wanted(room, work=20) for room in wanted} == wanted


def test_the_command_line_replaces_the_number():
    demand = Demand.of(Resources.model_validate({"workers": {"min": 2, "max": 5}, "memory": 1.5}), workers=7)
    assert (demand.least, demand.most, demand.memory) == (7, 7, 3 * GIB // 2)


def test_machines_and_demands_in_words():
    assert describe_machines([PLAIN, PLAIN, H100]) == (
        "2 with 8 CPUs, 0 GPUs, 16.0 GiB; 1 with 16 CPUs, 2 GPUs, 64.0 GiB, kind=H100, zone=a"
    )
    assert describe_machines([]) == "no machine"
    demand = Demand(2.0, 0.5, 4 * GIB, ({"kind": "H100"}, {"kind": "A100"}))
    text = "2 CPUs, 0.5 GPUs, 4 GiB of memory, the labels {kind: H100} or {kind: A100}"
    assert str(demand) == text


@pytest.mark.parametrize(
    ("demand", "machine"),
    [
        (Demand(), H100),  # the first one with a GPU, whichever has one: so `auto` finds it
        (Demand(selectors=({"kind": "A100"}, {"kind": "H100"})), A100),
        (Demand(selectors=({"kind": "!in(A100, H100)"},)), PLAIN),
        (Demand(gpus=8.0), A100),
        (Demand(cpus=17.0), None),
    ],
)
def test_the_machine_that_decides_is_one_that_can_hold_a_worker_with_a_gpu_if_any_has(demand, machine):
    assert demand.preferred([PLAIN, H100, A100]) == machine
