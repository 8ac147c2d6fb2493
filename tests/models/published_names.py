"""Names and shapes in the published weight files, written down from the files' descriptions."""

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def clip_visual(prefix: str = "", *, width: int = 768, depth: int = 12, patch: int = 16, grid: int = 14) -> Shapes:
    """FaRL's and CLIP's image network."""
    shapes = {
        "conv1.weight": (width, 3, patch, patch),
        "class_embedding": (width,),
        "positional_embedding": (grid * grid + 1, width),
        "proj": (width, 512),
    }
    shapes |= norm("ln_pre", width) | norm("ln_post", width)
    for layer in range(depth):
        block = f"transformer.resblocks.{layer}"
        shapes |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{block}.attn.out_proj", width, width)
        shapes |= linear(f"{block}.mlp.c_fc", width, 4 * width) | linear(f"{block}.mlp.c_proj", 4 * width, width)
    return {prefix + name: shape for name, shape in shapes.items()}


def farl_checkpoint(**sizes: int) -> Shapes:
    """`ckpt["state_dict"]` with a few names of the text network beside the image network."""
    text = {"logit_scale": (), "token_embedding.weight": (50, 512), "text_projection": (512, 512)}
    return clip_visual("state_dict.visual.", **sizes) | {f"state_dict.{name}": shape for name, shape in text.items()}


def dinov2_hub(*, width: int = 768, depth: int = 12, grid: int = 37, registers: int = 0) -> Shapes:
    """torch.hub's files."""
    shapes = {
        "cls_token": (1, 1, width),
        "mask_token": (1, width),
        "pos_embed": (1, grid * grid + 1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
    }
    shapes |= {"register_tokens": (1, registers, width)} if registers else {}
    for layer in range(depth):
        block = f"blocks.{layer}"
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        shapes |= linear(f"{block}.attn.qkv", width, 3 * width) | linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", width, 4 * width) | linear(f"{block}.mlp.fc2", 4 * width, width)
        shapes |= {f"{block}.ls1.gamma": (width,), f"{block}.ls2.gamma": (width,)}
    return shapes | norm("norm", width)


def dinov2_transformers(*, width: int = 768, depth: int = 12, grid: int = 37, registers: int = 0) -> Shapes:
    """The same network as the transformers package saves it."""
    shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, grid * grid + 1, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (width,),
    }
    shapes |= {"embeddings.register_tokens": (1, registers, width)} if registers else {}
    for layer in range(depth):
        block = f"encoder.layer.{layer}"
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        for part in ("query", "key", "value"):
            shapes |= linear(f"{block}.attention.attention.{part}", width, width)
        shapes |= linear(f"{block}.attention.output.dense", width, width)
        shapes |= linear(f"{block}.mlp.fc1", width, 4 * width) | linear(f"{block}.mlp.fc2", 4 * width, width)
        shapes |= {f"{block}.layer_scale1.lambda1": (width,), f"{block}.layer_scale2.lambda1": (width,)}
    return shapes | norm("layernorm", width)


VGG_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of the convolutions in torchvision's vgg16.features
VGG_LAST = (2, 7, 14, 21, 28)  # before the ReLUs whose outputs LPIPS compares


def vgg16(widths: tuple[int, ...] = (64, 64, 128, 128, *[256] * 3, *[512] * 6)) -> Shapes:
    """torchvision's VGG16 without its first classifier layer (half a gigabyte of nothing that is needed)."""
    shapes: Shapes = {}
    for number, inputs, outputs in zip(VGG_NUMBERS, (3, *widths), widths, strict=False):
        shapes |= {f"features.{number}.weight": (outputs, inputs, 3, 3), f"features.{number}.bias": (outputs,)}
    return shapes | linear("classifier.6", 4096, 1000)


def lpips_linear(widths: tuple[int, ...] = (64, 128, 256, 512, 512)) -> Shapes:
    return {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(widths)}
