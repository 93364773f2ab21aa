"""SDEs, samplers, score networks and GANs in pure PyTorch: a library that can be imported on its own.

Must not import Ray, pyarrow, click, `jobs`, `cluster` or `fid`.
"""
