"""Every name of the published files finds its place, in the real sizes and without a number being allocated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.models.convert.dinov2 import convert_dinov2
from sheap_jax.models.convert.farl import VIT_B16, convert_farl
from sheap_jax.models.convert.lpips import convert_lpips
from sheap_jax.models.convert.mapping import ConversionError
from sheap_jax.models.convert.sheap import convert_sheap
from sheap_jax.models.convert.vit_tables import VitSize
from sheap_jax.models.estimator import HeadEstimator
from sheap_jax.models.perceptual import Lpips
from sheap_jax.models.transformer import FARL, STYLES
from sheap_jax.models.vit import Vit
from sheap_jax.models.weights import flatten
from tests.models import published_names as published

TINY = {"width": 64, "depth": 2, "grid": 3}
TINY_CLIP = VitSize(16, 64, 2, 3)


def specs(shapes: published.Shapes) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def random_tensors(shapes: published.Shapes, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def params_of(convert, tensors):
    """Parameters of a converter by path, and its other results, from specifications alone."""
    rest = []

    def run(arrays):
        converted = convert(arrays)
        rest.append(converted._replace(weights=converted.weights._replace(params={})))
        return converted.weights.params

    return {name: leaf.shape for name, leaf in flatten(jax.eval_shape(run, tensors)).items()}, rest[0]


def shapes_of(module, *inputs) -> dict[str, tuple[int, ...]]:
    params = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return {name: leaf.shape for name, leaf in flatten(params).items()}


def vit_of(architecture) -> Vit:
    sizes = {key: value for key, value in architecture.items() if key != "style"}
    return Vit(**sizes, num_extra=0, style=STYLES[architecture["style"]])


def test_farl_at_its_real_size():
    params, result = params_of(convert_farl, specs(published.farl_checkpoint()))
    assert params == shapes_of(vit_of(result.weights.architecture), jnp.zeros((1, 224, 224, 3)))
    assert result.unused == [
        "state_dict.logit_scale", "state_dict.text_projection", "state_dict.token_embedding.weight",
        "state_dict.visual.proj",
    ]  # fmt: skip


@pytest.mark.parametrize("names", [published.dinov2_hub, published.dinov2_transformers], ids=["hub", "transformers"])
@pytest.mark.parametrize(("width", "depth", "registers"), [(384, 12, 0), (768, 12, 4), (1024, 24, 0)])
def test_dinov2_at_its_real_sizes(names, width, depth, registers):
    params, result = params_of(convert_dinov2, specs(names(width=width, depth=depth, registers=registers)))
    network = vit_of(result.weights.architecture)
    assert (network.style.registers, network.heads) == (registers, width // 64)
    assert params == shapes_of(network, jnp.zeros((1, 224, 224, 3)))
    assert [name.split(".")[-1] for name in result.unused] == ["mask_token"]


def test_lpips_at_its_real_size():
    params, result = params_of(convert_lpips, specs(published.vgg16() | published.lpips_linear()))
    image = jnp.zeros((1, 32, 32, 3))
    assert params == shapes_of(Lpips(), image, image)
    assert result.unused == ["classifier.6.bias", "classifier.6.weight"]


def test_a_whole_lpips_module_is_read_too():
    renamed = {}
    for name, shape in (published.vgg16() | published.lpips_linear()).items():
        number = name.split(".")[1] if name.startswith("features") else ""
        renamed[f"net.slice1.{number}.{name.split('.')[-1]}" if number else name] = shape
    params, _ = params_of(convert_lpips, specs(renamed))
    assert len(params) == 13 * 2 + 5


def sheap_release(*, width: int = 768, depth: int = 12, grid: int = 14, hidden: int = 768) -> published.Shapes:
    """One guess at the release: CLIP's names, five tokens in one tensor, heads as sequences, joints apart."""
    shapes = published.clip_visual("model.encoder.", width=width, depth=depth, grid=grid)
    shapes |= {"model.extra_tokens": (1, 5, width)}
    for head, outputs in (("shape_head", 300), ("expr_head", 100), ("light_head", 16), ("jaw_pose", 3)):
        shapes |= published.norm(f"model.{head}.0", width)
        shapes |= published.linear(f"model.{head}.1", width, hidden) | published.linear(
            f"model.{head}.3", hidden, outputs
        )
    return shapes


def test_sheap_as_far_as_it_is_recognised():
    params, result = params_of(convert_sheap, specs(sheap_release()))
    estimator = HeadEstimator(300, 100, 16, 5, head_width=768, style=FARL)
    ours = shapes_of(estimator, jnp.zeros((1, 224, 224, 3)))
    assert {name: ours[name] for name in params} == params
    assert {name.split("/")[0] for name in params} == {"vit", "shape_head", "expression_head", "light_head"}
    assert "vit/extra_tokens" in params
    assert result.unfilled == ("pose_head", "features_head")
    assert {name.split(".")[1] for name in result.unused} == {"jaw_pose", "encoder"}  # encoder.proj


def test_sheap_with_five_named_tokens_and_without_heads():
    shapes = published.clip_visual("vit.", width=64, depth=2, grid=3)
    shapes |= {f"{role}_token": (1, 1, 64) for role in ("light", "expr", "pose", "shape", "feat")}
    tensors = random_tensors(shapes)
    converted = convert_sheap(tensors, size=TINY_CLIP)
    order = ("shape", "expr", "pose", "light", "feat")
    expected = np.concatenate([tensors[f"{role}_token"][0] for role in order])
    np.testing.assert_array_equal(converted.weights.params["vit"]["extra_tokens"], expected)
    assert len(converted.unfilled) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("state_dict.visual.ln_post.bias"), r"missing: ln_post\.bias"),
        (lambda t: t.pop("state_dict.visual.conv1.weight"), r"missing: conv1\.weight"),
        (lambda t: t.pop("state_dict.visual.class_embedding"), "missing: class_embedding"),
        (lambda t: t.update({"state_dict.visual.ln_pre.bias": np.zeros(3)}), r"ln_pre\.bias is \(3,\), not \(64,\)"),
        (lambda t: t.update({"state_dict.visual.conv1.weight": np.zeros((64, 3, 32, 32))}), "patch is 32, not 16"),
        (lambda t: t.update({"state_dict.visual.transformer.resblocks.2.x": np.zeros(3)}), "depth is 3, not 2"),
    ],
)
def test_other_networks_are_refused_by_name(change, message):
    tensors = random_tensors(published.farl_checkpoint(**TINY))
    convert_farl(tensors, size=TINY_CLIP)
    change(tensors)
    with pytest.raises(ConversionError, match=message):
        convert_farl(tensors, size=TINY_CLIP)


def test_a_network_of_another_kind_is_refused():
    tensors = random_tensors(published.dinov2_hub(**TINY))
    with pytest.raises(ConversionError, match="FaRL or CLIP"):
        convert_farl(tensors)
    with pytest.raises(ConversionError, match=r"DINOv2.*width is 64, not 384 or 768 or 1024"):
        convert_dinov2(tensors)
    with pytest.raises(ConversionError, match=r"missing: lin0\.model\.1\.weight"):
        convert_lpips(random_tensors(published.vgg16((2,) * 13)))
    assert VIT_B16.depth == 12


WRAPPED = {
    "module": lambda name: f"module.{name}",
    "model and compile": lambda name: f"model._orig_mod.{name}",
    "state_dict": lambda name: f"state_dict.module.{name}",
    "any": lambda name: f"ema.loss.net.{name}",
    "in the middle": lambda name: name.replace(".", "._orig_mod.", 1),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
@pytest.mark.parametrize("network", ["farl", "dinov2", "lpips", "whole lpips", "sheap"])
def test_prefixes_and_wrappers_change_nothing(network, wrap):
    vgg = published.vgg16((2,) * 13) | published.lpips_linear((2,) * 5)
    whole = {name.replace("features.", "net.slice1."): shape for name, shape in vgg.items()}
    stages = ((2, 2), (2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    shapes, convert = {
        "farl": (published.clip_visual(**TINY), lambda t: convert_farl(t, size=TINY_CLIP)),
        "dinov2": (published.dinov2_hub(**TINY), lambda t: convert_dinov2(t, sizes=(VitSize(14, 64, 2, 3),))),
        "lpips": (vgg, lambda t: convert_lpips(t, stages=stages)),
        "whole lpips": (whole, lambda t: convert_lpips(t, stages=stages)),
        "sheap": (sheap_release(width=64, depth=2, grid=3, hidden=8), lambda t: convert_sheap(t, size=TINY_CLIP)),
    }[network]
    tensors = random_tensors(shapes)
    expected = convert(tensors)
    found = convert({wrap(name): tensor for name, tensor in tensors.items()})
    ours, theirs = flatten(found.weights.params), flatten(expected.weights.params)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)
    assert len(found.unused) == len(expected.unused)


def test_the_two_files_of_lpips_may_have_prefixes_of_their_own():
    vgg = {f"vgg.{name}": shape for name, shape in published.vgg16((2,) * 13).items()}
    linear = {f"module.{name}": shape for name, shape in published.lpips_linear((2,) * 5).items()}
    stages = ((2, 2), (2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    converted = convert_lpips(random_tensors(vgg | linear), stages=stages)
    assert converted.unused == ["vgg.classifier.6.bias", "vgg.classifier.6.weight"]


def test_larger_networks_are_named_with_what_was_expected():
    large = random_tensors(published.clip_visual(width=128, depth=3, patch=14, grid=4))
    with pytest.raises(ConversionError) as caught:
        convert_farl(large, size=TINY_CLIP)
    assert str(caught.value).endswith("patch is 14, not 16, width is 128, not 64, depth is 3, not 2, grid is 4, not 3")
    mixed = random_tensors(published.dinov2_hub(width=384, depth=24, grid=37))
    with pytest.raises(ConversionError, match=r"width=384, depth=24.* is none of those published"):
        convert_dinov2(mixed)


def test_what_is_missing_is_one_line():
    tensors = random_tensors(published.farl_checkpoint(**TINY))
    few = {name: tensor for name, tensor in tensors.items() if "resblocks.1.mlp" not in name}
    with pytest.raises(ConversionError, match=r"missing: transformer\.resblocks\.1\.mlp\.c_fc\.weight.* and 1 more$"):
        convert_farl(few, size=TINY_CLIP)
    both = tensors | {name.replace("state_dict.", "ema."): tensor for name, tensor in tensors.items()}
    with pytest.raises(ConversionError, match=r"2 networks are in the file, one is wanted: state_dict\.visual"):
        convert_farl(both, size=TINY_CLIP)
