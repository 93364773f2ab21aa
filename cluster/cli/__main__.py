"""`python -m cluster.cli`: the command where the `sdesweep` script is not on the path."""

from cluster.cli import main

main(prog_name="sdesweep")
