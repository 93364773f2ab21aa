"""Small JSON files of the store as what they hold, or an error that names the file and the remedy.

A module of its own because whoever finds such a file damaged should be told the same way. It must not know
what the files are for.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from jobs.store import Store, StoreError

R = TypeVar("R", bound=BaseModel)


def read_record(store: Store, name: str, kind: type[R], what: str, remedy: str) -> R:
    """What a file holds. Raises FileNotFoundError, and StoreError where it is no `what`: then the remedy."""
    try:
        return kind.model_validate_json(store.get(name))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise StoreError(
            f"{name} in the store {store.url} is no {what} that this version knows: {problem}; {remedy}"
        ) from error
