"""The steps of a pickle, run with care: nothing is called but stand-ins, and nothing grows beyond the file.

A pickle is a program for a small stack machine. Python's usual machine trusts it. A file of a few bytes can ask for
tables of many gigabytes, set the state of any object, or crash the process with a key of deeply nested tuples. This is
Python's other machine, written in Python: only the steps that values need, and checks in those that build something.
"""

import pickle
import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

from sheap_jax.files.resolving import StandIn, check_keys, plain_dict

MOST_STEPS = 2**25  # a model of FLAME has some hundreds; one whose arrays are lists of numbers has 12 million
_CHECKED_READ = 2**16  # bytes; shorter reads need no look at what is left

# Steps that only extensions, buffers outside the file and classes of Python 2 need.
_LEFT_OUT = (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.NEWOBJ_EX)
_LEFT_OUT += (pickle.INST, pickle.OBJ, pickle.PERSID)


class Machine(pickle._Unpickler):
    """Runs one pickle. `find_class` gives subclasses of StandIn alone, or raises."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(_WithinFile(stream), encoding="latin1")

    def load(self) -> Any:
        """The object, stand-ins within it. Any error can come of a broken pickle."""
        self._unframer = pickle._Unframer(self._file_read, self._file_readline)  # type: ignore[attr-defined]
        self.read, self.readinto = self._unframer.read, self._unframer.readinto
        self.readline = self._unframer.readline
        self.metastack, self.stack, self.proto = [], [], 0
        self.append = self.stack.append
        read, steps = self.read, _STEPS
        try:
            for _ in range(MOST_STEPS):
                step = read(1)
                if not step:
                    raise EOFError("it ends too early")
                if step[0] not in steps:
                    raise ValueError(f"it has the step {step!r}, which no array needs")
                steps[step[0]](self)
        except pickle._Stop as stop:  # type: ignore[attr-defined]
            return stop.value
        raise ValueError(f"it has more than {MOST_STEPS} steps")


class _WithinFile:
    """A stream that is not asked for more than it holds: the memory for it would be taken first."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, here = stream, stream.tell()
        self._end = stream.seek(0, 2)
        stream.seek(here)
        self.readline = stream.readline

    def read(self, count: int) -> bytes:
        if count > _CHECKED_READ and count > self._end - self._stream.tell():
            raise EOFError(f"{count} bytes should follow, {self._end - self._stream.tell()} are left")
        return self._stream.read(count)


def _call(machine: Any) -> None:
    """REDUCE: a stand-in with arguments."""
    arguments, made = machine.stack.pop(), machine.stack[-1]
    machine.stack[-1] = _stand_in_type(made)(*_tuple(arguments))


def _new(machine: Any) -> None:
    """NEWOBJ: a stand-in that gets its state afterwards."""
    _tuple(machine.stack.pop())
    kind = _stand_in_type(machine.stack.pop())
    machine.append(kind.__new__(kind))


def _set_state(machine: Any) -> None:
    """BUILD: only stand-ins have a state."""
    state, value = machine.stack.pop(), machine.stack[-1]
    if not isinstance(value, StandIn):
        raise ValueError(f"it sets the state of a {type(value).__name__}")
    value.__setstate__(state)


def _stand_in_type(kind: Any) -> type[StandIn]:
    if not (isinstance(kind, type) and issubclass(kind, StandIn)):
        raise ValueError(f"it calls a {type(kind).__name__}")
    return kind


def _tuple(value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise ValueError(f"the arguments of a call are a {type(value).__name__}")
    return value


def _new_dict(machine: Any) -> None:
    """DICT"""
    items = machine.pop_mark()
    machine.append(plain_dict(zip(items[::2], items[1::2], strict=True)))


def _set_item(machine: Any) -> None:
    """SETITEM"""
    value, key = machine.stack.pop(), machine.stack.pop()
    _put(machine.stack[-1], [(key, value)])


def _set_items(machine: Any) -> None:
    """SETITEMS"""
    items = machine.pop_mark()
    _put(machine.stack[-1], zip(items[::2], items[1::2], strict=True))


def _put(target: Any, items: Iterable[tuple[Any, Any]]) -> None:
    if isinstance(target, StandIn):
        target.put(items)
    elif type(target) is dict:
        target.update(plain_dict(items))
    else:
        raise ValueError(f"it sets items of a {type(target).__name__}")


def _append(machine: Any) -> None:
    """APPEND"""
    value = machine.stack.pop()
    _extend(machine.stack[-1], [value])


def _appends(machine: Any) -> None:
    """APPENDS"""
    values = machine.pop_mark()
    _extend(machine.stack[-1], values)


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, StandIn) or type(target) is list:
        target.extend(values)
    else:
        raise ValueError(f"it appends to a {type(target).__name__}")


def _add_items(machine: Any) -> None:
    """ADDITEMS"""
    values, target = check_keys(machine.pop_mark()), machine.stack[-1]
    if type(target) is not set:
        raise ValueError(f"it adds to a {type(target).__name__}")
    target.update(values)


def _frozen_set(machine: Any) -> None:
    """FROZENSET"""
    machine.append(frozenset(check_keys(machine.pop_mark())))


def _bytearray(machine: Any) -> None:
    """BYTEARRAY8"""
    (length,) = struct.unpack("<Q", machine.read(8))
    machine.append(bytearray(machine.read(length)))


_STEPS: dict[int, Any] = {
    **{step: run for step, run in pickle._Unpickler.dispatch.items() if step not in {left[0] for left in _LEFT_OUT}},
    pickle.REDUCE[0]: _call,
    pickle.NEWOBJ[0]: _new,
    pickle.BUILD[0]: _set_state,
    pickle.DICT[0]: _new_dict,
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _set_items,
    pickle.APPEND[0]: _append,
    pickle.APPENDS[0]: _appends,
    pickle.ADDITEMS[0]: _add_items,
    pickle.FROZENSET[0]: _frozen_set,
    pickle.BYTEARRAY8[0]: _bytearray,
}
