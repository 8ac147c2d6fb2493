"""Converted weights of published networks: one `.npz` with the parameters and what they are parameters of.

`sheap convert` writes them from the files that the networks were published in.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sheap_jax.files.array_files import read_npz
from sheap_jax.files.file_kinds import check_npz_output
from sheap_jax.files.json_files import parse_json
from sheap_jax.files.whole_file import whole_file

FORMAT_VERSION = 1
_METADATA = "metadata"  # name of the JSON entry

Params = dict[str, Any]


class NetworkWeights(NamedTuple):
    """Parameters of one network."""

    network: str  # "farl", "dinov2", "lpips" or "sheap", the names of the converters
    architecture: dict[str, Any]  # sizes, as the network's module takes them
    params: Params  # nested, arrays at the leaves


def save_weights(path: str | Path, weights: NetworkWeights) -> None:
    """Write `weights`; an older file is replaced once the new one is complete. ValueError as `check_npz_output`."""
    check_npz_output(path)
    metadata = {
        "format_version": FORMAT_VERSION,
        "network": weights.network,
        "architecture": weights.architecture,
    }
    arrays = {_METADATA: np.array(json.dumps(metadata)), **flatten(weights.params)}
    with whole_file(path) as temporary, temporary.open("wb") as file:  # to a path, NumPy may append .npz
        np.savez(file, allow_pickle=False, **arrays)


def load_weights(path: str | Path, *networks: str, arrays: bool = True) -> NetworkWeights:
    """Read what `save_weights` wrote; with `arrays=False` only the architecture.

    Args:
      networks: names of the networks that fit where these weights are wanted.

    Raises:
      FileNotFoundError: there is no such file; says how to make one.
      ValueError: the file is damaged or holds another network; names both.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"the weights {path} do not exist: make them with sheap convert "
            f"{' or '.join(networks)} IN {path}, or leave the path empty to do without"
        )
    how, kind = f"make it with sheap convert {' or '.join(networks)} IN OUT.npz", "converted weights"
    found = read_npz(path, None if arrays else [_METADATA], kind=kind, way_out=how)
    try:
        metadata = parse_json(str(found.pop(_METADATA)))
        version, network, architecture = (metadata[key] for key in ("format_version", "network", "architecture"))
        params = unflatten(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or no {kind} ({error}): {how}") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, not {FORMAT_VERSION}: convert it again")
    if network not in networks:
        raise ValueError(f"{path} holds weights of {network}, wanted are those of {' or '.join(networks)}")
    return NetworkWeights(network, architecture, params)


def flatten(params: Params, prefix: str = "") -> dict[str, Float[np.ndarray, "..."]]:
    """Arrays by path, parts joined with "/"."""
    flat = {}
    for name, value in params.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = value
    return flat


def unflatten(flat: dict[str, Any]) -> Params:
    """The inverse of `flatten`."""
    params: Params = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        inner = params
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return params


def merge(params: Params, start: Params, *, where: str) -> Params:
    """`params` with the arrays of `start` in place of its own.

    Raises ValueError, naming `where` the weights come from, for arrays that `params` lacks or has in another shape.
    """
    flat, wanted = flatten(params), flatten(start)
    shapes = {name: np.shape(value) for name, value in wanted.items()}
    ours = {name: tuple(flat[name].shape) if name in flat else "not there" for name in shapes}
    wrong = [f"{name} is {shape} there, {ours[name]} here" for name, shape in shapes.items() if ours[name] != shape]
    if wrong:
        raise ValueError(f"{where} does not fit this network: {', '.join(wrong[:4])}{' ...' if wrong[4:] else ''}")
    return unflatten(flat | wanted)
