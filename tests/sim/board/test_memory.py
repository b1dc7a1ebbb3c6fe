"""Allocation and the cache of the virtual board's memory."""

from __future__ import annotations

import numpy as np
import pytest

from pliant_sim.board.errors import BoardError
from pliant_sim.board.memory import PAGE_BYTES, STALE, BoardMemory


def memory(pages: int = 8, *, coherent: bool = False) -> BoardMemory:
    return BoardMemory(pages * PAGE_BYTES, coherent=coherent)


def test_buffers_start_on_pages_and_do_not_overlap() -> None:
    mem = memory()
    found = [mem.allocate(nbytes) for nbytes in (1, PAGE_BYTES, PAGE_BYTES + 1, 10)]
    assert [(item.address - mem.base) / PAGE_BYTES for item in found] == [0, 1, 2, 4]
    assert mem.live_bytes == 1 + PAGE_BYTES + PAGE_BYTES + 1 + 10
    assert len(mem.live) == 4


def test_freed_memory_is_joined_and_used_again() -> None:
    mem = memory(4)
    first, second, third = (mem.allocate(PAGE_BYTES) for _ in range(3))
    mem.free(second)
    mem.free(first)
    assert mem.allocate(2 * PAGE_BYTES).address == mem.base
    mem.free(third)
    assert mem.allocate(2 * PAGE_BYTES).address == mem.base + 2 * PAGE_BYTES


def test_exhaustion_names_the_sizes() -> None:
    mem = memory(4)
    mem.allocate(PAGE_BYTES)
    middle = mem.allocate(PAGE_BYTES)
    mem.allocate(PAGE_BYTES)
    mem.free(middle)
    with pytest.raises(MemoryError, match=r"no room for 8192 bytes: 8192 of 16384 bytes are free, "
                                          r"the largest gap has 4096; 2 buffers are live"):
        mem.allocate(2 * PAGE_BYTES)
    mem.allocate(PAGE_BYTES)
    mem.allocate(PAGE_BYTES)
    with pytest.raises(MemoryError, match="the largest gap has 0"):
        mem.allocate(1)


def test_freeing_twice_is_an_error() -> None:
    mem = memory()
    item = mem.allocate(10)
    mem.free(item)
    with pytest.raises(BoardError, match="was freed before"):
        mem.free(item)
    mem.allocate(10)
    with pytest.raises(BoardError, match="was freed before"):
        mem.flush(item, 0, 10)


@pytest.mark.parametrize("nbytes", [0, -1])
def test_nothing_cannot_be_allocated(nbytes: int) -> None:
    with pytest.raises(ValueError, match="1 byte or more"):
        memory().allocate(nbytes)


def test_the_core_sees_flushed_bytes_alone() -> None:
    mem = memory()
    mem.allocate(1)
    item = mem.allocate(64)
    host, start = mem.host_view(item), item.address - mem.base
    host[:] = 7
    assert np.all(mem.device_bytes[start:start + 64] == STALE)
    mem.flush(item, 16, 8)
    assert np.all(mem.device_bytes[start + 16:start + 24] == 7)
    assert np.count_nonzero(mem.device_bytes == 7) == 8


def test_the_processor_sees_invalidated_bytes_alone() -> None:
    mem = memory()
    item = mem.allocate(64)
    mem.device_bytes[:64] = 9
    host = mem.host_view(item)
    assert np.all(host == STALE)
    mem.invalidate(item, 8, 4)
    assert host.tolist() == [STALE] * 8 + [9] * 4 + [STALE] * 52


@pytest.mark.parametrize("coherent", [False, True])
def test_uncached_memory_is_the_same_for_both(coherent: bool) -> None:
    mem = memory(coherent=coherent)
    item = mem.allocate(4, uncached=not coherent)
    mem.host_view(item)[:] = 5
    assert mem.device_bytes[:4].tolist() == [5] * 4
    mem.flush(item, 0, 4)
    mem.invalidate(item, 0, 4)
    assert mem.device_bytes[:4].tolist() == [5] * 4


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 65), (-1, 4), (60, 5)])
def test_ranges_outside_of_a_buffer_are_errors(offset: int, nbytes: int) -> None:
    mem = memory()
    item = mem.allocate(64)
    for operation in (mem.flush, mem.invalidate):
        with pytest.raises(BoardError, match="outside the buffer of 64 bytes"):
            operation(item, offset, nbytes)


def test_bytes_are_stale_after_free() -> None:
    mem = memory()
    item = mem.allocate(4)
    view = mem.host_view(item)
    view[:] = 1
    mem.free(item)
    assert view.tolist() == [STALE] * 4
