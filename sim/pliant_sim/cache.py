"""The user's cache: what is built once for each content, and locks between processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def cache_directory() -> Path:
    """Return where builds are kept: ``$PLIANT_CACHE``, or ``pliant`` in the user's cache."""
    override = os.environ.get("PLIANT_CACHE")
    if override:
        return Path(override)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pliant"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on file `path` between processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return what file `path` holds; made first, and once, if there is no such file."""
    with locked(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            scratch = path.with_name(f"{path.name}.part")
            scratch.write_bytes(make())
            scratch.rename(path)
    return path.read_bytes()
