"""Plans: every sample in exactly one shard, whole groups, nothing done twice; and what a sweep costs."""

import random
import time

import pytest
from configured import configuration

from jobs.planning.plan import gaps, group_count, groups, plan


def test_whole_groups_and_a_ragged_last_one():
    assert list(groups(range(0, 1000), 256)) == [
        range(0, 256),
        range(256, 512),
        range(512, 768),
        range(768, 1000),
    ]
    shards = plan(configuration(samples=1000, group_size=256, shard_size=512))
    assert shards == [range(0, 512), range(512, 1000)]


def test_added_samples_leave_a_ragged_group_alone_and_begin_with_one_of_their_own():
    shards = plan(configuration(samples=2000, group_size=256, shard_size=512), [range(0, 1000)])
    assert shards == [range(1000, 1024), range(1024, 1536), range(1536, 2000)]
    assert list(groups(shards[0], 256)) == [range(1000, 1024)]


def test_fewer_samples_than_there_are_leaves_nothing_to_do():
    assert plan(configuration(samples=500), [range(0, 1000)]) == []
    assert plan(configuration(samples=500), [range(0, 256), range(1024, 2048)]) == [range(256, 500)]


def test_another_shard_size_plans_the_gaps_only():
    done = [range(256, 512), range(1024, 1280)]
    shards = plan(configuration(samples=2048, group_size=256, shard_size=1024), done)
    assert shards == [range(0, 256), range(512, 1024), range(1280, 2048)]


@pytest.mark.parametrize("done", [[range(0, 300), range(256, 512)], [range(0, 512), range(0, 512)]])
def test_overlapping_finished_ranges_are_refused(done):
    with pytest.raises(ValueError, match="overlaps"):
        plan(configuration(), done)


def test_random_plans_cover_every_sample_once_in_whole_groups():
    """Over many random sizes, and random finished shards of earlier plans with other shard sizes."""
    dice = random.Random(0)
    for _ in range(300):
        group = dice.randint(1, 20)
        samples = dice.randint(1, 500)
        before = plan(configuration(samples=samples, group_size=group, shard_size=group * dice.randint(1, 5)))
        done = dice.sample(before, dice.randint(0, len(before)))
        later = configuration(
            samples=samples + dice.randint(0, 60), group_size=group, shard_size=group * dice.randint(1, 5)
        )
        shards = plan(later, done)
        covered = sorted(index for part in [*shards, *done] for index in part)
        assert covered == list(range(later.samples))
        assert shards == sorted(shards, key=lambda shard: shard.start)
        finished = [group for part in done for group in groups(part, later.group_size)]
        for shard in shards:
            assert 0 < len(shard) <= later.shard_size
            for part in groups(shard, group):
                # a group is cut by its boundaries, by the end of the samples, or by what was done before
                ends = {later.samples, *(g.start for g in finished)}
                starts = {g.stop for g in finished}
                assert part.start % group == 0 or part.start in starts
                assert part.stop % group == 0 or part.stop in ends
        assert sum(group_count(shard, group) for shard in shards) == sum(
            len(list(groups(shard, group))) for shard in shards
        )


def test_groups_do_not_depend_on_the_shard_size():
    def all_groups(shard_size: int) -> list[range]:
        shards = plan(configuration(samples=5000, group_size=128, shard_size=shard_size))
        return [group for shard in shards for group in groups(shard, 128)]

    assert all_groups(128) == all_groups(640) == all_groups(12_800)


def test_done_ranges_may_come_in_any_order():
    done = [range(start, start + 10) for start in range(0, 200, 20)]
    expected = [range(start + 10, start + 20) for start in range(0, 200, 20)]
    assert list(gaps(200, done)) == list(gaps(200, done[::-1])) == expected


def test_a_million_shards_are_planned_in_seconds():
    large = configuration(samples=256_000_000, group_size=256, shard_size=256)
    begin = time.process_time()
    shards = plan(large)
    left = plan(large, shards[::2])
    assert (len(shards), len(left)) == (1_000_000, 500_000)
    assert time.process_time() - begin < 10  # quadratic would take hours; linear takes about one second
