"""Feature networks, feature statistics, Fréchet distance and the other scores of image sets.

Must not import Ray, click, `jobs`, `cluster` or `sdesampling`.
"""
