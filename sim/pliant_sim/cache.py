"""The user's cache: what is built once for each content, and locks between processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

UNUSED_DAYS = 30
"""How long something stays in the cache without being used."""


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
        if path.exists():
            path.touch()
        else:
            discard_unused(path.parent)
            scratch = path.with_name(f"{path.name}.part")
            scratch.write_bytes(make())
            scratch.rename(path)
    return path.read_bytes()


def discard_unused(directory: Path, days: float = UNUSED_DAYS) -> None:
    """Remove files and directories of `directory` that nobody has touched for so many days."""
    oldest = time.time() - days * 86_400
    for entry in list(directory.iterdir()) if directory.exists() else ():
        with contextlib.suppress(OSError):  # another process may be faster, or use a lock
            if entry.stat().st_mtime < oldest:
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
