"""The command called in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from cluster.cli import main


def invoke(*arguments: object) -> Result:
    """Exit code and output of a command; whatever is raised beside an exit is raised here."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
