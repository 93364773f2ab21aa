"""What is to be run and what has been done: spec, plan, store and commit protocol, ledger, reduction, report.

Knows `sdesampling` and `fid`; must not import Ray or `cluster`.
"""
