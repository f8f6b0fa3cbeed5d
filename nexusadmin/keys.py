"""Makes keys, and keeps those of a development machine in files that only their owner can read.

`python -m nexusadmin.keys secret` and `python -m nexusadmin.keys field` print a new one.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def new_secret_key() -> str:
    """Return a new SECRET_KEY: 64 random bytes as text."""
    return secrets.token_urlsafe(64)


def new_field_key() -> str:
    """Return a new key for FIELD_ENCRYPTION_KEYS (Fernet: 32 random bytes, base64)."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode("ascii")


def is_field_key(key: str) -> bool:
    """Tell whether Fernet takes the key; asked at every start, so without loading Fernet."""
    try:
        return len(base64.urlsafe_b64decode(key)) == 32
    except ValueError:
        return False


def kept(path: Path, make: Callable[[], str]) -> str:
    """Return the text kept at `path`, made by `make` and stored with mode 0600 the first time.

    Processes that start together agree on one value: the first to link its file into place wins.

    Raises:
        OSError: the directory cannot be made or written.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(make() + "\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
    finally:
        os.unlink(draft)
    return path.read_text(encoding="utf-8").strip()


def main(arguments: list[str]) -> int:
    """Print a new key of the kind asked for; return the exit code."""
    makers = {"secret": new_secret_key, "field": new_field_key}
    if len(arguments) != 1 or arguments[0] not in makers:
        print(f"usage: python -m nexusadmin.keys {'|'.join(makers)}", file=sys.stderr)
        return 2
    print(makers[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
