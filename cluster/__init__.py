"""Where it runs: driver, Ray workers, submission and the `sdesweep` command.

The only package that imports Ray. It may import `jobs`; nothing imports it.
"""
