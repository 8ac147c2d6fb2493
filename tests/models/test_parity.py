"""The networks against independent PyTorch implementations on random weights, through our own converters.

float32: features agree to 1e-5, gradients with respect to image and parameters to 1e-4, both relative to the largest
value. Small widths: the code does not depend on them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.method.losses.perceptual import perceptual_error
from sheap_jax.models.convert.dinov2 import convert_dinov2
from sheap_jax.models.convert.farl import convert_farl
from sheap_jax.models.convert.lpips import convert_lpips
from sheap_jax.models.convert.readers import read_tensors
from sheap_jax.models.convert.vit_tables import VitSize
from sheap_jax.models.perceptual import Lpips
from sheap_jax.models.positions import resize_positions
from sheap_jax.models.transformer import STYLES
from sheap_jax.models.vit import Vit, normalize_images
from sheap_jax.models.weights import flatten
from tests.models.published_names import VGG_LAST, VGG_NUMBERS

torch = pytest.importorskip("torch", reason="needs torch and transformers (pip install -e '.[parity]')")
transformers = pytest.importorskip("transformers", reason="needs transformers (pip install -e '.[parity]')")

RNG = np.random.default_rng(0)
WIDTH, DEPTH, GRID = 128, 2, 3


def assert_close(ours, theirs, tolerance: float, name: str = "") -> None:
    theirs = np.asarray(theirs)
    assert np.abs(np.asarray(ours) - theirs).max() < tolerance * np.abs(theirs).max(), name


def randomize(module) -> None:
    """Weights large enough for attention that is far from uniform, and nothing at its default."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.3 if parameter.ndim < 2 or "embed" in name else 2.0 / np.sqrt(np.prod(parameter.shape[1:]))
            parameter.copy_(scale * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))


def clip_names(model, values) -> dict[str, np.ndarray]:
    """Values of a transformers CLIP vision model by FaRL's names; the three inputs of attention in one tensor."""
    direct = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
    }
    renamed = {}
    for name, value in values.items():
        name = name.removeprefix("vision_model.")
        for theirs, farls in (
            ("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post"), ("encoder.layers", "transformer.resblocks"),
            ("layer_norm", "ln_"), ("self_attn.", "attn."), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
        ):  # fmt: skip
            name = name.replace(theirs, farls)
        renamed[direct.get(name, name)] = np.asarray(value)
    for layer in range(DEPTH):
        attention = f"transformer.resblocks.{layer}.attn."
        for kind in ("weight", "bias"):
            parts = [renamed.pop(f"{attention}{part}_proj.{kind}") for part in "qkv"]
            renamed[f"{attention}in_proj_{kind}"] = np.concatenate(parts)
    return {f"visual.{name}": value for name, value in renamed.items()}


def run_torch(model, images, cotangent, features):
    """Features of a torch model, and gradients of their product with `cotangent`."""
    pixels = torch.tensor(np.moveaxis(images, -1, 1).copy(), requires_grad=True)
    output = features(model, pixels)
    (output * torch.tensor(cotangent)).sum().backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
    return output.detach().numpy(), np.moveaxis(pixels.grad.numpy(), 1, -1), gradients


def check_vit(weights, gradients, reference, image_gradient, images, cotangent) -> None:
    sizes = {key: value for key, value in weights.architecture.items() if key != "style"}
    network = Vit(**sizes, num_extra=0, style=STYLES[weights.architecture["style"]])

    @jax.jit
    def run(params, images):
        def loss(params, images):
            tokens = network.apply({"params": params}, images)
            output = jnp.concatenate([tokens.leading, tokens.patches], axis=1)
            return jnp.sum(output * cotangent), output

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, images)

    (ours, ours_image), output = run(weights.params, images)
    assert_close(output, reference, 1e-5)
    assert_close(ours_image, image_gradient, 1e-4)
    for name, expected in flatten(gradients).items():
        gradient = flatten(ours)[name]
        if name.endswith("key/bias"):  # zero up to rounding: softmax does not see what all keys share
            assert np.abs(gradient).max() < 1e-3
        else:
            assert_close(gradient, expected, 1e-4, name)


def test_farl_is_transformers_clip_vision(tmp_path):
    config = transformers.CLIPVisionConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, intermediate_size=4 * WIDTH,
        image_size=16 * GRID, patch_size=16, hidden_act="quick_gelu",
    )  # fmt: skip
    model = transformers.CLIPVisionModel(config).eval()
    randomize(model)
    images = RNG.normal(size=(2, 48, 48, 3)).astype(np.float32)
    cotangent = RNG.normal(size=(2, 10, WIDTH)).astype(np.float32)
    norm = model.get_submodule("post_layernorm" if hasattr(model, "post_layernorm") else "vision_model.post_layernorm")

    def features(model, pixels):  # CLIP norms its class token alone, we all tokens
        return norm(model(pixel_values=pixels).last_hidden_state)

    output, image_gradient, gradients = run_torch(model, images, cotangent, features)
    state = {name: torch.tensor(value) for name, value in clip_names(model, model.state_dict()).items()}
    torch.save({"state_dict": state}, tmp_path / "farl.pth")
    size = VitSize(16, WIDTH, DEPTH, GRID)
    weights = convert_farl(read_tensors(tmp_path / "farl.pth"), size=size).weights
    gradients = convert_farl(clip_names(model, gradients), size=size).weights.params
    check_vit(weights, gradients, output, image_gradient, images, cotangent)


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_is_transformers_dinov2(tmp_path, registers):
    """On a grid of 4 x 3 patches: positions resized from 3 x 3."""
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2, "image_size": 14 * GRID}
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**sizes, patch_size=14, num_register_tokens=registers)
        model = transformers.Dinov2WithRegistersModel(config).eval()
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, patch_size=14)).eval()
        # transformers leaves the published offset of 0.1 out; torch.hub's network has it.
        model.embeddings.interpolate_pos_encoding = lambda *_: published_positions(model.embeddings, 4, 3)
    randomize(model)
    images = RNG.normal(size=(2, 56, 42, 3)).astype(np.float32)
    cotangent = RNG.normal(size=(2, 13 + registers, WIDTH)).astype(np.float32)
    output, image_gradient, gradients = run_torch(
        model, images, cotangent, lambda model, pixels: model(pixel_values=pixels).last_hidden_state
    )
    model.save_pretrained(tmp_path)
    size = VitSize(14, WIDTH, DEPTH, GRID, registers)
    converted = convert_dinov2(read_tensors(tmp_path / "model.safetensors"), sizes=(size,))
    assert converted.unused == ["embeddings.mask_token"]
    renamed = {}
    for name, gradient in gradients.items():
        for part, full in (("q", "query"), ("k", "key"), ("v", "value")):
            name = name.replace(f"attention.{part}_proj", f"attention.attention.{full}")
        renamed[name.replace("attention.o_proj", "attention.output.dense")] = gradient.numpy()
    gradients = convert_dinov2(renamed, sizes=(size,)).weights.params
    check_vit(converted.weights, gradients, output, image_gradient, images, cotangent)


def published_positions(embeddings, rows: int, columns: int):
    """Class and patch positions as in the published network: the scale is 0.1 of a patch too large."""
    table = embeddings.position_embeddings
    grid = table[:, 1:].reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
    scale = ((rows + 0.1) / GRID, (columns + 0.1) / GRID)
    grid = torch.nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=False)
    assert grid.shape[2:] == (rows, columns)
    return torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)], dim=1)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 23), (40, 45)])
@pytest.mark.parametrize("method", ["offset", "antialias"])
def test_positions_are_resized_as_torch_does(method, rows, columns):
    grid = RNG.normal(size=(37, 37, 5)).astype(np.float32)
    options = {"scale_factor": ((rows + 0.1) / 37, (columns + 0.1) / 37)}
    options = options if method == "offset" else {"size": (rows, columns), "antialias": True}
    theirs = torch.nn.functional.interpolate(torch.tensor(grid.transpose(2, 0, 1)[None]), mode="bicubic", **options)
    expected = theirs[0].permute(1, 2, 0).reshape(rows * columns, 5).numpy()
    # The reference rounds its sampling positions to float32: at 40 samples that alone is 1e-5.
    assert_close(resize_positions(jnp.asarray(grid), rows, columns, method=method), expected, 3e-5)


def torch_lpips(tensors, first, second, *, resized: bool):
    """Zhang et al., eq. 1, as the lpips package computes it: scaling layer, unit features, weighed squares, means."""
    distance = 0.0
    shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
    pair = [(2 * image - 1 - shift) / scale for image in (first, second)]
    for number in [number for number in VGG_NUMBERS if f"features.{number}.weight" in tensors]:
        if number in (5, 10, 17, 24):
            pair = [torch.nn.functional.max_pool2d(maps, 2, 2) for maps in pair]
        weight, bias = (tensors[f"features.{number}.{kind}"] for kind in ("weight", "bias"))
        pair = [torch.relu(torch.nn.functional.conv2d(maps, weight, bias, padding=1)) for maps in pair]
        if number in VGG_LAST:
            unit = [maps / (maps.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for maps in pair]
            weight = tensors[f"lin{VGG_LAST.index(number)}.model.1.weight"]
            layer = torch.nn.functional.conv2d((unit[0] - unit[1]) ** 2, weight)
            if resized:
                layer = torch.nn.functional.interpolate(layer, first.shape[2:], mode="bilinear", align_corners=False)
            distance = distance + (layer if resized else layer.mean(dim=(2, 3), keepdim=True))
    return distance[:, 0]


def test_lpips_is_the_published_formula():
    """On the first three of the five stages: the others repeat the third, and compile for seconds."""
    rng = np.random.default_rng(7)  # of its own: which pixels lie at the bend of a ReLU must not depend on other tests
    widths = (6, 6, 8, 8, 10, 10, 10)
    stages = (widths[:2], widths[2:4], widths[4:])
    tensors, inputs = {}, 3
    for number, width in zip(VGG_NUMBERS, widths, strict=False):
        tensors[f"features.{number}.weight"] = rng.normal(size=(width, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        tensors[f"features.{number}.bias"] = 0.3 + 0.1 * rng.normal(size=width)
        inputs = width
    for index, width in enumerate((6, 8, 10)):
        tensors[f"lin{index}.model.1.weight"] = rng.uniform(0.1, 1, size=(1, width, 1, 1))
    tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
    network, params = Lpips(stages=stages), convert_lpips(tensors, stages=stages).weights.params
    first, second = rng.uniform(size=(2, 2, 21, 30, 3)).astype(np.float32)  # odd sides: poolings leave a row out
    cotangent = rng.uniform(size=(2, 21, 30)).astype(np.float32)

    theirs = {name: torch.tensor(value) for name, value in tensors.items()}
    one, other = (torch.tensor(np.moveaxis(image, -1, 1).copy(), requires_grad=True) for image in (first, second))
    spatial = torch_lpips(theirs, one, other, resized=True)
    (spatial * torch.tensor(cotangent)).sum().backward()

    def run(image):
        layers = network.apply({"params": params}, image, second)
        error = perceptual_error(layers)
        return jnp.sum(error * cotangent), (error, sum(jnp.mean(layer, axis=(1, 2)) for layer in layers))

    (_, (error, distance)), gradient = jax.jit(jax.value_and_grad(run, has_aux=True))(first)
    assert_close(error, spatial.detach().numpy(), 1e-5)
    assert_close(distance, torch_lpips(theirs, one, other, resized=False)[:, 0, 0].detach().numpy(), 1e-5)
    assert_close(gradient, np.moveaxis(one.grad.numpy(), 1, -1), 1e-4)


def test_images_are_normalised_as_the_processors_do():
    image = RNG.uniform(size=(1, 4, 4, 3)).astype(np.float32)
    for style, constants in (("farl", "OPENAI_CLIP"), ("dinov2", "IMAGENET_DEFAULT")):
        utils = transformers.image_utils
        mean, deviation = (np.array(getattr(utils, f"{constants}_{kind}")) for kind in ("MEAN", "STD"))
        # An absolute tolerance too: near the mean the difference cancels.
        np.testing.assert_allclose(
            normalize_images(image, STYLES[style]), (image - mean) / deviation, rtol=1e-5, atol=1e-6
        )
