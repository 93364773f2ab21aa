"""Assignments carried out: a shard, a reduction, an evaluation, a check of everything that is stored."""
