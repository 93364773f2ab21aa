"""`Sweep`: everything one spec asks for, resolved into configurations in the order of its table."""

from __future__ import annotations

from jobs.configuration import Configuration
from jobs.sections import PlainName, Resources, Section


class Sweep(Section):
    """The configurations of one spec. `to_json` is self-contained: a sweep resumes from it alone."""

    name: PlainName
    description: str
    written: str  # the spec as the user wrote it
    overrides: dict[str, object]  # what the command line set beside it
    rows: tuple[str, ...]  # labels of the table, in order
    columns: tuple[str, ...]
    configurations: tuple[Configuration, ...]  # row by row; replicates of a cell beside each other
    store: str
    resources: Resources
    files: dict[str, str]  # sha256 -> path on this machine of the weights to be put into the store

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> Sweep:
        """Read `to_json` back. Raises pydantic.ValidationError (a ValueError) when it is something else."""
        return Sweep.model_validate_json(text)
