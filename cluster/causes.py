"""What an exception of the work means for the driver: whose fault it is decides what is done about it.

A module of its own so that every kind of pool answers alike. It must not know workers.
"""

from __future__ import annotations

import errno

from cluster.pool import Cause
from jobs.storage.commit import DamageError, OverlapError
from jobs.storage.images import BadImagesError
from jobs.store import StoreUnavailableError

#: Errors of the operating system that say nothing about the work: the store is full, away or read-only.
STORAGE_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EBUSY,
    }
)


def cause_of(error: Exception) -> Cause:
    """What an exception of the work means for the driver."""
    if isinstance(error, OverlapError):
        return "overlap"
    if isinstance(error, BadImagesError):
        return "diverged"
    if isinstance(error, DamageError):
        return "damage"
    if isinstance(error, StoreUnavailableError):
        return "storage"
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        return "storage"
    return "code"
