"""The official SHeaP release into our estimator, as far as its layout can be recognised.

Nobody outside the authors knows its names. Recognised are CLIP's names for the ViT-B/16 under any prefix, the five
tokens by size and name, and heads of layer norm and two linear layers by their number of outputs or their name.
Whatever does not match is reported, never guessed: the authors may have built a head differently.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from sheap_jax.models.convert.farl import VIT_B16, convert_clip
from sheap_jax.models.convert.mapping import (
    Conversion,
    Entry,
    Tensors,
    apply_table,
    layer_norm,
    linear,
    unwrapped,
    without_prefix,
)
from sheap_jax.models.convert.vit_tables import VitSize
from sheap_jax.models.weights import NetworkWeights, flatten, unflatten

WHAT = "SHeaP release with a CLIP ViT-B/16"
ROLES = ("shape", "expression", "pose", "light", "features")  # the order of the paper and of our extra tokens
_WORDS = {  # what a name of each role may contain
    "shape": ("shape", "ident"),
    "expression": ("expr",),
    "pose": ("pose",),
    "light": ("light", "illum"),
    "features": ("feat", "gauss"),
}
_OUTPUTS = {300: "shape", 100: "expression", 102: "expression"}  # 102: with the two eyelids


class Head(NamedTuple):
    """Layer norm and two linear layers found under one prefix."""

    role: str
    norm: str
    hidden: str
    out: str
    width: int
    outputs: int


def convert_sheap(tensors: Tensors, *, size: VitSize = VIT_B16) -> Conversion:
    """Parameters of `HeadEstimator` in the style FARL, those that were recognised.

    Raises ConversionError if not even the transformer can be found.
    """
    tensors = unwrapped(tensors)
    prefix, visual = without_prefix(tensors, "class_embedding", what=WHAT)
    converted = convert_clip(visual, size=size)
    params = {f"vit/{name}": value for name, value in flatten(converted.params).items()}
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
    rest |= {prefix + name: visual[name] for name in converted.unused}

    tokens = _find_tokens(rest, size.width)
    if tokens:
        rows = [rest[name].reshape(-1, size.width) for name in tokens]
        params["vit/extra_tokens"] = rows[0] if len(rows) == 1 else np.concatenate(rows)
    heads = _find_heads(rest, size.width)
    for head in heads:
        target = f"{head.role}_head"
        table: list[Entry] = [
            *layer_norm(f"{target}/norm", head.norm, size.width),
            *linear(f"{target}/hidden", head.hidden, size.width, head.width),
            *linear(f"{target}/out", head.out, head.width, head.outputs),
        ]
        params |= flatten(apply_table(table, rest, what=WHAT).params)
    used = {*tokens, *(f"{part}.{kind}" for h in heads for part in h[1:4] for kind in ("weight", "bias"))}
    found = {head.role for head in heads}
    unfilled = [f"{role}_head" for role in ROLES if role not in found] + ([] if tokens else ["vit/extra_tokens"])
    architecture: dict[str, Any] = size.architecture("farl") | {"heads_found": {h.role: h.outputs for h in heads}}
    weights = NetworkWeights("sheap", architecture, unflatten(params))
    return Conversion(weights, sorted(rest.keys() - used), tuple(unfilled))


def _find_tokens(rest: Tensors, width: int) -> list[str]:
    """Names of the five tokens in our order: one tensor of all (in the paper's order), or one for each role."""
    tokens = {name: tensor.shape for name, tensor in rest.items() if "token" in name.lower()}
    whole = [name for name, shape in tokens.items() if shape[-2:] == (len(ROLES), width)]
    if len(whole) == 1:
        return whole
    single = [name for name, shape in tokens.items() if shape[-1:] == (width,) and math.prod(shape) == width]
    by_role = [[name for name in single if _role(name) == role] for role in ROLES]
    return [names[0] for names in by_role] if all(len(names) == 1 for names in by_role) else []


def _find_heads(rest: Tensors, width: int) -> list[Head]:
    """Heads like ours. A role that two heads claim is left out."""
    found = []
    modules = {name.rpartition(".")[0] for name in rest if name.endswith(".weight") and f"{name[:-6]}bias" in rest}
    for prefix in sorted({module.rpartition(".")[0] for module in modules}):
        own = [module for module in modules if module.rpartition(".")[0] == prefix]
        shapes = {module: tuple(rest[f"{module}.weight"].shape) for module in own}
        norms = [m for m in own if shapes[m] == (width,)]
        linears = [m for m in own if len(shapes[m]) == 2]
        chains = [
            (first, second)
            for first in linears
            for second in linears
            if first != second and shapes[first][1] == width and shapes[first][0] == shapes[second][1]
        ]
        if len(own) == 3 and len(norms) == len(chains) == 1:
            hidden, out = chains[0]
            outputs, inner = shapes[out]
            role = _OUTPUTS.get(outputs) or _role(prefix)
            if role is not None and role != "pose":  # theirs predicts joints apart, ours all in one head
                found.append(Head(role, norms[0], hidden, out, inner, outputs))
    return [head for head in found if sum(other.role == head.role for other in found) == 1]


def _role(name: str) -> str | None:
    """The only role whose words a name contains."""
    roles = [role for role, words in _WORDS.items() if any(word in name.lower() for word in words)]
    return roles[0] if len(roles) == 1 else None
