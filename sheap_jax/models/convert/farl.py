"""FaRL's image network (Zheng et al., CVPR 2022), a CLIP ViT-B/16: from its checkpoint to our transformer."""

from sheap_jax.models.convert.mapping import (
    Conversion,
    ConversionError,
    Converted,
    Entry,
    Tensors,
    apply_table,
    layer_norm,
    linear,
    unwrapped,
    without_prefix,
)
from sheap_jax.models.convert.vit_tables import (
    ATTENTION_INPUTS,
    VitSize,
    mlp,
    other_sizes,
    patch_kernel,
    position_entries,
    stacked_linear,
    vit_size,
)
from sheap_jax.models.weights import NetworkWeights

WHAT = "FaRL or CLIP checkpoint with a ViT-B/16 image network"
VIT_B16 = VitSize(patch=16, width=768, depth=12, grid=14)


def convert_farl(tensors: Tensors, *, size: VitSize = VIT_B16) -> Conversion:
    """Weights of a `Vit` in the style FARL without extra tokens.

    Raises ConversionError for another network than a CLIP image network of `size`.
    """
    tensors = unwrapped(tensors)
    prefix, visual = without_prefix(tensors, "class_embedding", what=WHAT)
    converted = convert_clip(visual, size=size)
    others = [name for name in tensors if not name.startswith(prefix)]
    unused = sorted([prefix + name for name in converted.unused] + others)
    return Conversion(NetworkWeights("farl", size.architecture("farl"), converted.params), unused)


def convert_clip(visual: Tensors, *, size: VitSize) -> Converted:
    """The names of CLIP's image network, prefix removed. Raises ConversionError if it has not `size`."""
    if "positional_embedding" not in visual:
        raise ConversionError(f"this is no {WHAT}; missing: positional_embedding")
    positions = visual["positional_embedding"].shape
    found = vit_size(visual, kernel="conv1.weight", blocks="transformer.resblocks.", positions=positions[0], what=WHAT)
    if found != size:
        raise ConversionError(f"this is no {WHAT}: {other_sizes(found, size)}")
    return apply_table(clip_table(size), visual, what=WHAT)


def clip_table(size: VitSize) -> list[Entry]:
    """CLIP's image network without its projection into the space shared with texts."""
    width = size.width
    entries = [
        patch_kernel("patch_embedding/kernel", "conv1.weight", size.patch, width),
        Entry("class_token", "class_embedding", (width,)),
        *position_entries("positional_embedding", (size.grid**2 + 1, width), size),
        *layer_norm("norm_before", "ln_pre", width),
        *layer_norm("norm", "ln_post", width),
    ]
    for layer in range(size.depth):
        ours, theirs = f"block_{layer}", f"transformer.resblocks.{layer}"
        parts = [f"{ours}/attention/{part}" for part in ATTENTION_INPUTS]
        entries += layer_norm(f"{ours}/attention_norm", f"{theirs}.ln_1", width)
        entries += stacked_linear(parts, f"{theirs}.attn.in_proj_weight", f"{theirs}.attn.in_proj_bias", width)
        entries += linear(f"{ours}/attention/out", f"{theirs}.attn.out_proj", width, width)
        entries += mlp(ours, f"{theirs}.ln_2", f"{theirs}.mlp.c_fc", f"{theirs}.mlp.c_proj", width)
    return entries
