"""What a compiled step costs: operations from its trace, memory and traffic from the compiler.

XLA's own count of operations takes a loop's body once and a Pallas kernel as nothing. So matrix products and
convolutions are counted in the trace instead, where loops know their length; both counts are reported.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

DTYPE_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "f32": 4, "s32": 4, "u32": 4, "s64": 8}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Collective(NamedTuple):
    """Operations of one kind in one program, on one chip."""

    kind: str
    operations: int
    bytes: int  # of all their results


def matrix_flops(program: core.ClosedJaxpr) -> float:
    """Operations of matrix products and convolutions on one device; loops of unknown length count once."""
    return _flops(program.jaxpr)


def _flops(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            total += _dot_flops(equation)
        elif name == "conv_general_dilated":
            total += _convolution_flops(equation)
        elif name == "cond":
            total += max(_flops(branch.jaxpr) for branch in equation.params["branches"])
        elif name != "pallas_call":
            times = equation.params["length"] if name == "scan" else 1
            total += times * sum(_flops(inner) for inner in _inner(equation.params))
    return total


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """Programs within an equation: of calls, loops, checkpoints."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _dot_flops(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(equation: Any) -> float:
    """Operations of a convolution: every output takes the whole kernel; the holes of a dilated one do not count."""
    kernel, layout = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec
    per_output = math.prod(kernel) / kernel[layout[0]]
    # Zeros that a strided convolution's gradient puts between its inputs are not multiplied.
    holes = math.prod(equation.params["lhs_dilation"])
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * per_output / holes


def collectives(hlo: str) -> list[Collective]:
    """All transfers between chips in a compiled program, as the compiler has merged and rewritten them."""
    found: dict[str, list[int]] = {}
    for line in hlo.splitlines():
        match = re.search(rf"= (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(", line)
        if match:
            kind, started = match.group(2), match.group(3)
            sizes = [_bytes(*shape) for shape in re.findall(r"(\w+)\[([\d,]*)\]", match.group(1))]
            # An asynchronous operation names its operands as well as its results, except all-reduce.
            size = sum(sizes) if not started or kind == "all-reduce" else max(sizes, default=0)
            found.setdefault(kind, []).append(size)
    return [Collective(kind, len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())]


class Traffic(NamedTuple):
    """Bytes that one part of a program reads from and writes to a chip's memory."""

    part: str  # the first named scope of the step that the instructions come from
    bytes: int


def traffic(hlo: str, *, parts: Sequence[str] = ()) -> list[Traffic]:
    """Memory traffic of a compiled program by part, the largest first.

    Every instruction reads its operands and writes its results once, with the padding of their tiles. A fusion is one
    instruction. What the compiler keeps on the chip is free; a transfer to it moves its bytes once. A loop counts as
    often as it runs if that is known, else once. Pallas kernels do not count. Instructions outside of the named scopes
    `parts` are "other".
    """
    computations, entry = _computations(hlo)
    total: dict[str, int] = {}

    def visit(name: str, times: int) -> None:
        for one in computations.get(name, {}).values():
            if one.opcode in _FREE or one.opcode.endswith("-done") or one.kernel:
                continue
            if one.called and one.opcode != "fusion":
                for inner in one.called:
                    visit(inner, times * one.trips)
                continue
            operands = [computations[name][operand].shape for operand in one.operands if operand in computations[name]]
            if one.opcode.endswith("-start"):  # its result names its operands again
                moved = sum(map(_bytes_in_memory, operands)) or _bytes_in_memory(one.shape)
            else:
                moved = _bytes_in_memory(one.shape) + sum(map(_bytes_in_memory, operands))
            part = next((part for part in parts if f"{part}/" in one.scope or f"({part})" in one.scope), "other")
            total[part] = total.get(part, 0) + times * moved

    visit(entry, 1)
    return [Traffic(part, size) for part, size in sorted(total.items(), key=lambda item: -item[1])]


_KERNELS = ("tpu_custom_call", "mosaic_gpu", "triton_kernel_call")  # what Pallas makes
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "partition-id", "after-all", "iota"}


class _Instruction(NamedTuple):
    shape: str
    opcode: str
    operands: list[str]
    called: list[str]  # computations that run as instructions of their own: bodies of loops, branches, calls
    trips: int
    scope: str
    kernel: bool


def _computations(hlo: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """Instructions of every computation by name, and the name of the entry."""
    found: dict[str, dict[str, _Instruction]] = {}
    name = entry = ""
    for line in hlo.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{", line)
        if head:
            name = head.group(2)
            entry = name if head.group(1) else entry
            found[name] = {}
        match = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)", line)
        if not match or not name:
            continue
        own, shape, opcode, rest = match.groups()
        if "__cu" in rest and shape.startswith("("):  # of a library's results the last one is room to work in
            shape = shape.rsplit(", ", 1)[0]
        called = [] if opcode in ("fusion", "reduce", "sort", "scatter", "map") else _called(rest)
        trips = re.search(r'known_trip_count":\{"n":"(\d+)"', rest)
        scope = re.search(r'op_name="([^"]*)"', rest)
        operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
        found[name][own] = _Instruction(
            shape=shape,
            opcode=opcode,
            operands=operands,
            called=called,
            trips=int(trips.group(1)) if trips else 1,
            scope=scope.group(1) if scope else "",
            kernel=any(name in rest for name in _KERNELS),
        )
    return found, entry


def _called(rest: str) -> list[str]:
    single = re.findall(r"(?:body|to_apply|calls|true_computation|false_computation)=%([\w.\-]+)", rest)
    several = re.findall(r"branch_computations=\{([^}]*)\}", rest)
    return single + [name.strip().lstrip("%") for group in several for name in group.split(",")]


def _bytes_in_memory(shape: str) -> int:
    """Of an array or a tuple of them as the compiler prints it, tiles filled up, without what lies on the chip."""
    arrays = re.findall(r"(\w+)\[([\d,]*)\](\{[^}]*\})?", shape)
    return sum(_tiled_bytes(dtype, sizes, layout) for dtype, sizes, layout in arrays if "S(" not in layout)


def _tiled_bytes(dtype: str, shape: str, layout: str) -> int:
    """A layout such as {0,2,1:T(8,128)(2,1)} names the axes from the fastest on, then the tile of the last axes."""
    match = re.match(r"\{([\d,]*)(?::T\(([\d,]+)\))?", layout)
    if not match or not shape or not match.group(1):
        return _bytes(dtype, shape)
    sizes = [int(size) for size in shape.split(",")]
    ordered = [sizes[int(axis)] for axis in match.group(1).split(",")]
    tile = [int(size) for size in match.group(2).split(",")][::-1] if match.group(2) else []
    filled = [-(-size // side) * side for size, side in zip(ordered, tile, strict=False)] + ordered[len(tile) :]
    return DTYPE_BYTES.get(dtype, 4) * math.prod(filled)


def loops(hlo: str) -> list[int]:
    """Lengths of the program's loops; 0 where the compiler does not know it."""
    lines = [line for line in hlo.splitlines() if re.search(r" while\(", line)]
    known = [re.search(r'known_trip_count":\{"n":"(\d+)"', line) for line in lines]
    return [int(match.group(1)) if match else 0 for match in known]


def _bytes(dtype: str, shape: str) -> int:
    return DTYPE_BYTES.get(dtype, 4) * math.prod(int(size) for size in shape.split(",") if size)


def bytes_per_device(tree: Any) -> int:
    """Of a tree of shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * _item_bytes(leaf.dtype) for leaf in jax.tree.leaves(tree)
    )


def _item_bytes(dtype: Any) -> int:
    return 16 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else dtype.itemsize
