"""Tables that say which tensor of a published file becomes which parameter of ours."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from sheap_jax.models.weights import NetworkWeights, Params, unflatten

Tensors = Mapping[str, Any]  # arrays, or what jax.eval_shape passes for them

# Parts of names that torch's wrappers put between those of a network: DataParallel, compile, FSDP, checkpointing.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_SHOWN = 3  # names of a kind in a message


class ConversionError(ValueError):
    """A file that is not what the converter reads; the message names what is missing or of another shape."""


class Entry(NamedTuple):
    """One parameter of ours."""

    target: str  # its path, parts joined with "/"
    source: str  # name of the tensor it comes from
    shape: tuple[int, ...]  # that the tensor must have
    convert: Callable[[Float[Array, "..."]], Float[Array, "..."]] = lambda tensor: tensor


class Converted(NamedTuple):
    """Result of a table."""

    params: Params
    unused: list[str]  # names that no entry of the table reads


class Conversion(NamedTuple):
    """Result of a converter."""

    weights: NetworkWeights
    unused: list[str]  # names in the file that our network has no use for
    unfilled: tuple[str, ...] = ()  # parts of our network that the file gave nothing for


def apply_table(entries: Iterable[Entry], tensors: Tensors, *, what: str) -> Converted:
    """The parameters of a table. `what` the file should be is for the message.

    Raises ConversionError with the first names that are missing or have another shape, and how many there are.
    """
    entries = list(entries)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = {entry.source: entry.shape for entry in entries}
    missing = [name for name in wanted if name not in shapes]
    wrong = [f"{n} is {shapes[n]}, not {shape}" for n, shape in wanted.items() if n in shapes and shapes[n] != shape]
    faults = {"missing": missing, "of another shape": wrong}
    if missing or wrong:
        said = "; ".join(f"{fault}: {_first(rows)}" for fault, rows in faults.items() if rows)
        raise ConversionError(f"this is no {what}; {said}")
    params = unflatten({entry.target: entry.convert(tensors[entry.source]) for entry in entries})
    return Converted(params, sorted(shapes.keys() - wanted.keys()))


def _first(rows: list[str]) -> str:
    """The first rows and how many more there are."""
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(rows[:_SHOWN]) + more


def linear(target: str, source: str, inputs: int, outputs: int, *, bias: bool = True) -> list[Entry]:
    """A torch.nn.Linear as a flax Dense."""
    entries = [Entry(f"{target}/kernel", f"{source}.weight", (outputs, inputs), lambda w: w.T)]
    return [*entries, Entry(f"{target}/bias", f"{source}.bias", (outputs,))] if bias else entries


def layer_norm(target: str, source: str, width: int) -> list[Entry]:
    return [
        Entry(f"{target}/scale", f"{source}.weight", (width,)),
        Entry(f"{target}/bias", f"{source}.bias", (width,)),
    ]


def unwrapped(tensors: Tensors) -> dict[str, Any]:
    """The tensors under the names that they have without torch's wrappers, wherever in a name these stand.

    A name that is there with and without a wrapper keeps its own.
    """
    plain = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in tensors}
    return {plain[name]: tensor for name, tensor in tensors.items()} | {
        name: tensor for name, tensor in tensors.items() if plain[name] == name
    }


def without_prefix(tensors: Tensors, anchor: str, *, what: str) -> tuple[str, dict[str, Any]]:
    """The part before `anchor` in the only name that ends in it, and the tensors under it, by the rest of their names.

    It is the one place where prefixes such as "state_dict.", "model." or "encoder." are taken off.

    Raises ConversionError if there is no such name, or several.
    """
    ends = [name for name in tensors if name == anchor or name.endswith(f".{anchor}")]
    if not ends:
        raise ConversionError(f"this is no {what}; missing: {anchor} (what is there: {_first(list(tensors))})")
    if len(ends) > 1:
        raise ConversionError(f"{len(ends)} networks are in the file, one is wanted: {_first(ends)}")
    prefix = ends[0].removesuffix(anchor)
    return prefix, {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
