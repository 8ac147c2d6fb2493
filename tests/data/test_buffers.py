"""Memory of batches is handed out again once nobody holds it, and never before."""

import concurrent.futures
import gc
import pickle
import sys
import threading

import numpy as np

from sheap_jax.data.buffers import BufferPool

SHAPE = (2, 3, 4, 4, 3)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_that_nobody_holds_is_used_again():
    pool = BufferPool(SHAPE)
    array = pool.take()
    assert array.shape == SHAPE
    assert array.dtype == np.uint8
    assert array.flags.writeable
    first = address(array)
    del array
    gc.collect()
    assert address(pool.take()) == first


def test_any_view_keeps_it():
    """Slices of slices, other types, buffers of other libraries: what a batch's users may be left with."""
    pool = BufferPool(SHAPE)
    keepers = {
        "slice of a slice": lambda array: array[0][1:, ::2],
        "another type": lambda array: array.view(np.int8)[1].T,
        "buffer": memoryview,
        "array over a buffer": lambda array: np.frombuffer(memoryview(array), np.uint8)[5:],
        "DLPack": lambda array: np.from_dlpack(array[1]),
    }
    for name, keep in keepers.items():
        kept = keep(pool.take())
        gc.collect()
        others = [pool.take() for _ in range(3)]
        assert not any(np.shares_memory(kept, other) for other in others), name


def test_it_does_not_depend_on_counts_of_references(monkeypatch):
    """From Python 3.14 on they no longer count what a function has borrowed."""
    monkeypatch.setattr(sys, "getrefcount", lambda _: 3)
    pool = BufferPool(SHAPE)
    assert not np.shares_memory(*[pool.take() for _ in range(2)])


def test_no_memory_is_handed_to_two_threads():
    pool, ready = BufferPool((64,)), threading.Barrier(4)

    def use(number: int) -> bool:
        ready.wait()
        for _ in range(500):
            array = pool.take()
            array[:] = number
            view = array[::2]
            del array
            if not (view == number).all():
                return False
        return True

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert all(threads.map(use, range(4)))


def test_another_process_has_its_own():
    pool = BufferPool(SHAPE)
    other = pickle.loads(pickle.dumps(pool))
    assert other.take().shape == SHAPE
    assert not np.shares_memory(pool.take(), other.take())
