import os
import time
from pathlib import Path

from pliant_sim.cache import UNUSED_DAYS, discard_unused, kept


def age(path: Path, days: float) -> None:
    then = time.time() - 86_400 * days
    os.utime(path, (then, then))


def test_what_is_kept_is_made_once(tmp_path: Path) -> None:
    calls = iter([b"made", b"made again"])
    assert [kept(tmp_path / "a" / "file", lambda: next(calls)) for _ in range(2)] == [b"made"] * 2


def test_what_nobody_uses_is_removed_when_something_new_is_kept(tmp_path: Path) -> None:
    for name in ("old", "used", "recent"):
        kept(tmp_path / name, lambda: b"")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").touch()
    for name in ("old", "old.lock", "used", "directory"):
        age(tmp_path / name, UNUSED_DAYS + 1)
    age(tmp_path / "recent", UNUSED_DAYS - 1)
    kept(tmp_path / "used", lambda: b"made again")
    kept(tmp_path / "new", lambda: b"")
    assert {path.name for path in tmp_path.iterdir()} == {
        "used", "used.lock", "recent", "recent.lock", "new", "new.lock"}


def test_a_cache_that_does_not_exist_has_nothing_to_remove(tmp_path: Path) -> None:
    discard_unused(tmp_path / "nowhere")
