"""DINOv2 (Oquab et al., TMLR 2024), S, B and L with patches of 14: hub and transformers names to our transformer."""

from typing import NamedTuple

from sheap_jax.models.convert import mapping, vit_tables
from sheap_jax.models.weights import NetworkWeights

WHAT = "DINOv2 ViT-S/14, B/14 or L/14"
PUBLISHED = tuple(
    vit_tables.VitSize(14, width, depth, 37, registers)
    for width, depth in ((384, 12), (768, 12), (1024, 24))
    for registers in (0, 4)
)


class _Names(NamedTuple):
    """Where a family of files keeps what."""

    positions: str
    patch: str
    class_token: str
    registers: str
    blocks: str
    norm: str


_HUB = _Names("pos_embed", "patch_embed.proj", "cls_token", "register_tokens", "blocks.", "norm")
_TRANSFORMERS = _Names(
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection",
    "embeddings.cls_token",
    "embeddings.register_tokens",
    "encoder.layer.",
    "layernorm",
)


def convert_dinov2(
    tensors: mapping.Tensors, *, sizes: tuple[vit_tables.VitSize, ...] = PUBLISHED
) -> mapping.Conversion:
    """Weights of a `Vit` in the style DINOV2, or DINOV2_REGISTERS.

    Raises ConversionError for another network than a DINOv2 of one of `sizes`.
    """
    tensors = mapping.unwrapped(tensors)
    hub = any(name.split(".")[-1] == "pos_embed" for name in tensors)
    names = _HUB if hub else _TRANSFORMERS
    prefix, own = mapping.without_prefix(tensors, names.positions, what=WHAT)
    size = vit_tables.vit_size(
        own,
        kernel=f"{names.patch}.weight",
        blocks=names.blocks,
        positions=own[names.positions].shape[1],
        registers=own[names.registers].shape[1] if names.registers in own else 0,
        what=WHAT,
    )
    if size not in sizes:
        raise mapping.ConversionError(f"this is no {WHAT}: {vit_tables.other_sizes(size, *sizes)}")
    converted = mapping.apply_table(_table(size, names), own, what=WHAT)
    others = [name for name in tensors if not name.startswith(prefix)]
    style = "dinov2_registers" if size.registers else "dinov2"
    unused = sorted([prefix + name for name in converted.unused] + others)
    return mapping.Conversion(NetworkWeights("dinov2", size.architecture(style), converted.params), unused)


def _table(size: vit_tables.VitSize, names: _Names) -> list[mapping.Entry]:
    width = size.width
    entries = [
        vit_tables.patch_kernel("patch_embedding/kernel", f"{names.patch}.weight", size.patch, width),
        mapping.Entry("patch_embedding/bias", f"{names.patch}.bias", (width,)),
        mapping.Entry("class_token", names.class_token, (1, 1, width), lambda t: t[0, 0]),
        *vit_tables.position_entries(names.positions, (1, size.grid**2 + 1, width), size),
        *mapping.layer_norm("norm", names.norm, width),
    ]
    if size.registers:
        entries.append(mapping.Entry("registers", names.registers, (1, size.registers, width), lambda t: t[0]))
    block = _hub_block if names is _HUB else _transformers_block
    for layer in range(size.depth):
        ours, theirs = f"block_{layer}", f"{names.blocks}{layer}"
        entries += block(ours, theirs, width)
        entries += mapping.layer_norm(f"{ours}/attention_norm", f"{theirs}.norm1", width)
        entries += vit_tables.mlp(ours, f"{theirs}.norm2", f"{theirs}.mlp.fc1", f"{theirs}.mlp.fc2", width)
    return entries


def _hub_block(ours: str, theirs: str, width: int) -> list[mapping.Entry]:
    parts = [f"{ours}/attention/{part}" for part in vit_tables.ATTENTION_INPUTS]
    return [
        *vit_tables.stacked_linear(parts, f"{theirs}.attn.qkv.weight", f"{theirs}.attn.qkv.bias", width),
        *mapping.linear(f"{ours}/attention/out", f"{theirs}.attn.proj", width, width),
        mapping.Entry(f"{ours}/attention_gain", f"{theirs}.ls1.gamma", (width,)),
        mapping.Entry(f"{ours}/mlp_gain", f"{theirs}.ls2.gamma", (width,)),
    ]


def _transformers_block(ours: str, theirs: str, width: int) -> list[mapping.Entry]:
    entries = mapping.linear(f"{ours}/attention/out", f"{theirs}.attention.output.dense", width, width)
    for part in vit_tables.ATTENTION_INPUTS:
        entries += mapping.linear(f"{ours}/attention/{part}", f"{theirs}.attention.attention.{part}", width, width)
    entries.append(mapping.Entry(f"{ours}/attention_gain", f"{theirs}.layer_scale1.lambda1", (width,)))
    entries.append(mapping.Entry(f"{ours}/mlp_gain", f"{theirs}.layer_scale2.lambda1", (width,)))
    return entries
