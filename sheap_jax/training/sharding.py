"""Which process and device holds what.

The mesh has two axes. The batch is split over both, so that every device works on pairs of its own: the forward and
backward pass is one program per device (`on_devices`). Every transfer between devices is written out, in `gather` and
`reduce` here and in `over_devices` of the losses. The compiler alone would gather the whole batch on every device where
the batch is not an array's first axis, as in the graph network.

Parameters and optimiser state are whole on each device along "data" and shared out along "fsdp". There every array is
cut along one axis. A step first gathers the whole arrays, and a device updates only its own piece. The arithmetic is
the same: memory is saved, traffic is added.
"""

import contextlib
import dataclasses
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sheap_jax.config_files import ConfigError
from sheap_jax.data.augment import float_batch
from sheap_jax.training.state import TrainState
from sheap_jax.types import Batch, RawBatch

T = TypeVar("T")
AXES = ("data", "fsdp")
SMALLEST_SHARED = 4096  # elements below which an array is not worth cutting


def start_processes(*, distributed: bool, heartbeat_seconds: int) -> None:
    """Join the other processes of this run, before anything else asks JAX for devices. One process alone joins nothing.

    The addresses come from the environment variables JAX_COORDINATOR_ADDRESS (host:port of process 0),
    JAX_NUM_PROCESSES and JAX_PROCESS_ID. With `distributed`, JAX finds them by itself on Cloud TPU, SLURM and Open MPI.
    A process that is silent for `heartbeat_seconds` counts as dead and the others stop.

    Raises ConfigError if one of the variables is no number, or JAX finds no device.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if distributed or address is not None:
        jax.distributed.initialize(
            address,
            num_processes=_number("JAX_NUM_PROCESSES"),
            process_id=_number("JAX_PROCESS_ID"),
            heartbeat_timeout_seconds=heartbeat_seconds,
        )
    try:
        jax.devices()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise ConfigError(f"JAX finds no device: {reason} (JAX_PLATFORMS is {asked!r}; cpu is always there)") from error


def _number(variable: str) -> int | None:
    """The whole number in an environment variable, if it is set."""
    text = os.environ.get(variable)
    if text is not None and not text.isdecimal():
        raise ConfigError(f"the environment variable {variable} is {text!r}, it must be a whole number")
    return None if text is None else int(text)


def leads() -> bool:
    """Whether this process writes the files of the run."""
    return jax.process_index() == 0


def as_leader(values: np.ndarray) -> np.ndarray:
    """The first process's values, on every process."""
    return values if jax.process_count() == 1 else np.asarray(multihost_utils.broadcast_one_to_all(values))


def on_all(value: bool) -> bool:
    """Whether something holds on every process. All of them must ask."""
    return value if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(value)).all())


@contextlib.contextmanager
def failing_together(expected: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Around the work of one process of several: if it fails, it ends at once, and the others notice and stop.

    An orderly end would wait for the others, which wait for this one. An `expected` error is printed without traceback.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, expected):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def make_mesh(batch_size: int, *, fsdp: int = 1, accumulate: int = 1) -> Mesh | None:
    """A mesh over all devices of all processes; None on a single device.

    Raises ValueError if the devices do not divide by `fsdp`, or the batch does not divide by devices x `accumulate`.
    """
    count = jax.device_count()
    if count % fsdp:
        raise ValueError(f"config.devices.fsdp is {fsdp}, which does not divide the {count} devices")
    if batch_size % (count * accumulate):
        raise ValueError(
            f"config.batch_size {batch_size} is no multiple of {count} devices x {accumulate} accumulated parts"
        )
    if count == 1:
        return None
    return jax.make_mesh((count // fsdp, fsdp), AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2)


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    return None if mesh is None else NamedSharding(mesh, P())


def state_shardings(state: TrainState, mesh: Mesh) -> TrainState:
    """For each array of the state (or its shape): parameters and optimiser cut along "fsdp", the rest whole."""
    cut = jax.tree.map(lambda leaf: _cut(leaf, mesh), (state.params, state.opt_state))
    whole = jax.tree.map(lambda _: replicated(mesh), state)
    return dataclasses.replace(whole, params=cut[0], opt_state=cut[1])


def _cut(leaf: Any, mesh: Mesh) -> NamedSharding:
    """Cut along the longest axis that divides evenly; small arrays stay whole."""
    parts = mesh.shape["fsdp"]
    axes = [axis for axis, size in enumerate(leaf.shape) if size % parts == 0]
    if parts == 1 or leaf.size < SMALLEST_SHARED or not axes:
        return NamedSharding(mesh, P())
    longest = max(axes, key=lambda axis: leaf.shape[axis])
    return NamedSharding(mesh, P(*[None] * longest, "fsdp"))


def place_state(state: TrainState, mesh: Mesh | None) -> TrainState:
    """A state that every process has computed for itself, on the devices of all of them."""
    return state if mesh is None else jax.tree.map(_place, state, state_shardings(state, mesh))


def replicate(tree: T, mesh: Mesh | None) -> T:
    """A copy of every array on every device of the mesh."""
    return tree if mesh is None else jax.tree.map(lambda leaf: _place(leaf, NamedSharding(mesh, P())), tree)


def place_rows(tree: T, mesh: Mesh | None) -> T:
    """Arrays that every process has whole, split over all devices along their first axis."""
    return tree if mesh is None else jax.tree.map(lambda leaf: _place(leaf, NamedSharding(mesh, P(AXES))), tree)


def _place(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Built from each process's own copy: nothing is sent, and nothing is compared as in jax.device_put."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_place(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def shard_batch(batch: RawBatch, mesh: Mesh | None) -> Batch:
    """The global batch on the devices, from this process's share. Bytes become floats on the devices."""
    if mesh is not None:
        rows = NamedSharding(mesh, P(AXES))
        batch = jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(rows, leaf), batch)
    return _float_rows(batch, mesh)


@functools.partial(jax.jit, static_argnames="mesh")
def _float_rows(batch: RawBatch, mesh: Mesh | None) -> Batch:
    """Every device for its own rows."""
    return on_devices(float_batch, mesh, in_specs=P(AXES), out_specs=P(AXES))(batch)


def on_devices(function: Callable[..., T], mesh: Mesh | None, *, in_specs: Any, out_specs: Any) -> Callable[..., T]:
    """`function` by jax.shard_map, on every device's share. Without a mesh the function itself."""
    if mesh is None:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def mesh_of(shardings: TrainState | None) -> Mesh | None:
    """The mesh of `state_shardings`; None where everything is on one device."""
    step: Any = None if shardings is None else shardings.step  # as a sharding in the place of the array
    return None if step is None else step.mesh


def specs(shardings: Any) -> Any:
    """The partition specs of a tree of shardings."""
    return jax.tree.map(lambda leaf: leaf.spec, shardings)


def gather(tree: T, shardings: Any) -> T:
    """On one device: whole arrays from the pieces of all devices."""
    if shardings is None:
        return tree

    def whole(leaf: jax.Array, own: NamedSharding) -> jax.Array:
        axis = _cut_axis(own)
        return leaf if axis is None else jax.lax.all_gather(leaf, "fsdp", axis=axis, tiled=True)

    return jax.tree.map(whole, tree, shardings)


def reduce(gradient: dict[str, Any], shardings: dict[str, Any] | None) -> dict[str, Any]:
    """On one device: its piece of the sum of all devices' gradients."""
    if shardings is None:
        return gradient

    def own_piece(leaf: jax.Array, own: NamedSharding) -> jax.Array:
        axis = _cut_axis(own)
        if axis is None:
            return jax.lax.psum(leaf, AXES)
        return jax.lax.psum(jax.lax.psum_scatter(leaf, "fsdp", scatter_dimension=axis, tiled=True), "data")

    return {name: jax.tree.map(own_piece, own, shardings[name]) for name, own in gradient.items()}


def _cut_axis(own: NamedSharding) -> int | None:
    return list(own.spec).index("fsdp") if "fsdp" in own.spec else None
