"""How long a step takes at best: what it computes and moves, divided by what chips can do.

Every number that is not from the compiler is here. Nothing was measured on a TPU; docs/experiments/gpu.md has what was
measured on a GPU.
"""

from typing import NamedTuple


class Chip(NamedTuple):
    """Vendor's figures (cloud.google.com/tpu/docs, NVIDIA's data sheets); dense products."""

    flops: float  # bfloat16, per second
    memory: float  # bytes
    bandwidth: float  # bytes per second, high-bandwidth memory
    links: float  # bytes per second that a chip can send to all its neighbours, in a slice with wrapped axes
    clock: float  # bundles per second of a TensorCore; of a GPU the clock
    axes: int  # of the torus
    wrapped: int  # chips from which on slices are wrapped to a torus; smaller ones are meshes, with half the links


CHIPS = {
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 200e9, 1.5e9, 2, 256),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9, 1.75e9, 3, 64),
    "v6e": Chip(918e12, 32 * 2**30, 1640e9, 400e9, 1.75e9, 2, 256),
    "a100": Chip(312e12, 80e9, 2039e9, 300e9, 1.41e9, 1, 1),
    "h100": Chip(989e12, 80e9, 3352e9, 450e9, 1.98e9, 1, 1),
    "h200": Chip(989e12, 141e9, 4800e9, 450e9, 1.98e9, 1, 1),
}
# (tile, surfel) entries per surfel, head shells at 224 pixels: 1.3 to 1.9 on tiles of 32 pixels, 2.7 to 3.3 on 8.
ENTRIES_PER_SURFEL = {"pallas_tpu": 1.6, "pallas_gpu": 3.0}


class Assumptions(NamedTuple):
    """Numbers that come neither from the compiler nor from the vendor."""

    entry_bytes: int = 2 * 4 * (16 + 7) + 4 * (16 + 7)  # rows read by both kernels, gradient rows written by one
    latency: float = 1e-6  # seconds per link and operation
    overlap: float = 0.0  # share of the transfers that hides behind computing


class StepWork(NamedTuple):
    """One chip's step."""

    flops: float  # matrix products and convolutions
    bytes: float  # memory traffic outside of the rasteriser's kernels
    entries: float  # (tile, surfel) entries, all images
    bundles: float  # per entry, forward and backward, one TensorCore
    reduced: float  # bytes summed over all chips
    gathered: float  # bytes put together from, or scattered to, the chips that share out the state
    transfers: int  # operations between chips


class StepTime(NamedTuple):
    """Seconds."""

    compute: float  # matrix unit at its peak, or memory at its peak: whichever takes longer
    rasterise: float
    transfer: float
    total: float


def step_time(work: StepWork, chip: Chip, assumptions: Assumptions, *, chips: int, fsdp: int = 1) -> StepTime:
    """A lower bound of the step's time on `chips` chips.

    A sum over n chips sends 2 (n - 1) / n of its bytes per chip, a gather or a scatter among f chips (f - 1) / f of
    them (bandwidth-optimal rings on all axes of the torus at once).
    """
    memory = work.bytes + work.entries * assumptions.entry_bytes
    compute = max(work.flops / chip.flops, memory / chip.bandwidth)
    rasterise = work.entries * work.bundles / chip.clock
    transfer = 0.0
    if chips > 1:
        links = chip.links if chips >= chip.wrapped else chip.links / 2
        sent = 2 * (chips - 1) / chips * work.reduced + (fsdp - 1) / fsdp * work.gathered
        hops = 2 * chip.axes * chips ** (1 / chip.axes)
        transfer = sent / links + work.transfers * hops * assumptions.latency
    total = compute + rasterise + transfer * (1 - assumptions.overlap)
    return StepTime(compute, rasterise, transfer, total)
