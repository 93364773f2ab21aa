"""The token by which Ray knows its users: where it is found, who else can read it, and telling Ray of it.

Ray decides from its environment, when it is first imported, whether to authenticate. So the mode is set
before, explicitly. This module must not import Ray.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

MODE = "RAY_AUTH_MODE"
VALUE = "RAY_AUTH_TOKEN"
PATH = "RAY_AUTH_TOKEN_PATH"
PRIVATE = 0o600


@dataclass(frozen=True)
class Token:
    """A token, and the file that it came from; None: from the environment."""

    value: str
    file: Path | None = None

    def __repr__(self) -> str:
        return f"Token(file={self.file})"

    @property
    def source(self) -> str:
        """For people; never the token itself."""
        return str(self.file) if self.file else f"the environment ({VALUE})"

    @property
    def readable_by_others(self) -> bool:
        """Whether anybody but its owner may read or change the file."""
        return self.file is not None and bool(stat.S_IMODE(self.file.stat().st_mode) & ~PRIVATE)


def find_token() -> Token | None:
    """The token, looked for where Ray does: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token.

    Raises OSError when the file that is named cannot be read, or is no text.
    """
    if os.environ.get(VALUE):
        return Token(os.environ[VALUE].strip())
    named = os.environ.get(PATH)
    path = Path(named or os.path.expanduser("~/.ray/auth_token"))
    if not named and not path.is_file():
        return None
    try:
        return Token(path.read_text(encoding="utf-8").strip(), path)
    except UnicodeDecodeError:
        raise OSError(f"{path} holds no text, and a token is text") from None


def use_token(token: Token | None) -> None:
    """Make Ray authenticate by this token, or not at all. Call before Ray is imported."""
    os.environ[MODE] = "disabled" if token is None else "token"
    if token is not None and token.file is not None:
        os.environ[PATH] = str(token.file)
