"""What a compiled step costs: operations from its trace, memory and traffic from the compiler.

XLA's own count of operations takes a loop's body once and a Pallas kernel as nothing. So matrix products and
convolutions are counted in the trace instead, where loops know their length; both counts are reported.
"""

import math
import re
from collections.abc import Iterator
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
    bytes: int  # of what they give out, together


def matrix_flops(program: core.ClosedJaxpr) -> float:
    """Operations of matrix products and convolutions, of one device inside shard_map; loops of unknown length once."""
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
    """Every output takes the whole kernel; of a kernel with holes or strides in the gradient, zeros count too."""
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


def loops(hlo: str) -> list[int]:
    """Lengths of the program's loops where the compiler knows them, 0 where not."""
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
