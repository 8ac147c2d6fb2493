"""What the tables of all published vision transformers share."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from sheap_jax.models.convert.mapping import ConversionError, Entry, Tensors, layer_norm, linear

HEAD_WIDTH = 64  # of every published CLIP and DINOv2
ATTENTION_INPUTS = ("query", "key", "value")


class VitSize(NamedTuple):
    """Sizes of a vision transformer."""

    patch: int
    width: int
    depth: int
    grid: int
    registers: int = 0

    def architecture(self, style: str) -> dict[str, Any]:
        """As `weights.NetworkWeights` says it; the style knows the registers."""
        sizes = {"patch": self.patch, "width": self.width, "depth": self.depth, "grid": self.grid}
        return {"style": style, **sizes, "heads": self.width // HEAD_WIDTH}


def vit_size(tensors: Tensors, *, kernel: str, blocks: str, positions: int, registers: int = 0, what: str) -> VitSize:
    """Sizes read off a file: `kernel` embeds patches, numbers follow `blocks`, one of `positions` is the class token's.

    Raises ConversionError, naming `what` the file should be, if they cannot be read.
    """
    if kernel not in tensors:
        raise ConversionError(f"this is no {what}; missing: {kernel}")
    shape = tuple(tensors[kernel].shape)
    if len(shape) != 4:
        raise ConversionError(f"this is no {what}; of another shape: {kernel} is {shape}, not (width, 3, patch, patch)")
    width, _, patch, _ = shape
    side = math.isqrt(positions - 1)
    if side * side != positions - 1:
        raise ConversionError(f"this is no {what}: {positions - 1} patch positions are no square grid")
    return VitSize(patch, width, _count(tensors, blocks), side, registers)


def other_sizes(found: VitSize, *wanted: VitSize) -> str:
    """What of a network's sizes is not among those wanted."""
    names = [name for name in VitSize._fields if getattr(found, name) not in {getattr(size, name) for size in wanted}]
    rows = []
    for name in names or VitSize._fields:
        known = dict.fromkeys(getattr(size, name) for size in wanted)
        rows.append(f"{name} is {getattr(found, name)}, not {' or '.join(map(str, known))}")
    return ", ".join(rows) if names else f"{found} is none of those published"


def _count(names: Iterable[str], prefix: str) -> int:
    """How many different words follow `prefix` in the names."""
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})


def position_entries(source: str, shape: tuple[int, ...], size: VitSize) -> list[Entry]:
    """The class token's position and the grid's, from one tensor of `shape` that holds them one after the other."""
    rows = (size.grid**2 + 1, size.width)
    grid = (size.grid, size.grid, size.width)
    return [
        Entry("class_position", source, shape, lambda p: p.reshape(rows)[0]),
        Entry("positions", source, shape, lambda p: p.reshape(rows)[1:].reshape(grid)),
    ]


def patch_kernel(target: str, source: str, patch: int, width: int) -> Entry:
    """A strided convolution [width, 3, patch, patch] as a dense layer on patches flattened by row, column, channel."""
    return Entry(
        target, source, (width, 3, patch, patch), lambda w: w.transpose(2, 3, 1, 0).reshape(3 * patch * patch, width)
    )


def stacked_linear(targets: list[str], weight: str, bias: str, width: int) -> list[Entry]:
    """Dense layers of `width` inputs and outputs whose weights lie under one another in one tensor."""
    entries = []
    for row, target in enumerate(targets):
        part = slice(row * width, (row + 1) * width)
        shape = (len(targets) * width, width)
        entries.append(Entry(f"{target}/kernel", weight, shape, lambda w, part=part: w[part].T))
        entries.append(Entry(f"{target}/bias", bias, shape[:1], lambda b, part=part: b[part]))
    return entries


def mlp(ours: str, norm: str, first: str, second: str, width: int) -> list[Entry]:
    """The MLP of a block and the norm before it."""
    return [
        *layer_norm(f"{ours}/mlp_norm", norm, width),
        *linear(f"{ours}/mlp_in", first, width, 4 * width),
        *linear(f"{ours}/mlp_out", second, 4 * width, width),
    ]
