"""`sdesweep doctor`: is everything right for working here, on a cluster, with a store?"""

from __future__ import annotations

import click

from cluster.cli.common import command, emit
from cluster.cli.submitting import as_data, show_checks


@click.command()
@click.option("--address", metavar="URL", help="Also look at the head whose dashboard is there.")
@click.option("--store", metavar="URL", help="Also look at this store; a trial file is written and removed.")
@command
def doctor(address: str | None, store: str | None, as_json: bool) -> int:
    """Look for what is wrong, with the remedy: versions, GPUs, the token, open ports, a cluster, a store.

    Ends with 1 when a check failed; warnings are no failures.

    \b
    Example:
      sdesweep doctor --address http://127.0.0.1:8265 --store /shared/runs
    """
    from cluster.access import find_token
    from cluster.checks import cluster_checks, failures, store_checks, token_checks
    from cluster.machine_checks import machine_checks

    checks = machine_checks()
    token, found = token_checks(find_token)
    checks += found
    if store is not None:
        checks += store_checks(store)
    if address is not None:
        checks += cluster_checks(address, token)[1]
    failed = failures(checks)
    if as_json:
        emit({"checks": as_data(checks), "failed": len(failed), "exit_code": 1 if failed else 0})
    else:
        show_checks(checks)
        click.echo(f"{len(failed)} of {len(checks)} checks failed" if failed else "nothing failed")
    return 1 if failed else 0
