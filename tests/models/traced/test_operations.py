"""Every operation that the translator knows, as torch traces it, against torch: many small ones in one trace."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="traces are made and checked with torch")
F = torch.nn.functional

from sheap_jax.models.traced import check  # noqa: E402
from sheap_jax.models.traced.reader import read_trace, run_torch  # noqa: E402
from sheap_jax.models.traced.runner import OPERATIONS  # noqa: E402
from tests.models.traced.standins import traced  # noqa: E402

KERNEL = torch.linspace(-1, 1, 4 * 3 * 9).view(4, 3, 3, 3)
BLOCK = torch.linspace(-1, 1, 24).view(2, 3, 4)
RAMP = torch.linspace(0.1, 2, 6)
WHERE = torch.tensor([[0, 2, 1], [3, 3, 0]])


def chunks(x):
    a, b = x.flatten(2).chunk(2, dim=-1)
    c, d, e = x.split([1, 3, 2], dim=2)
    f, g = x.split(3, dim=3)
    h, i, j = torch.unbind(x, 1)
    return torch.cat(
        [(a - b).flatten(1), c.sum((1, 2)), (d[..., 1:] * e[:, :, :1, 1:]).flatten(1), (f * g).flatten(1)], 1
    ), h + i / (j + 2)


ARITHMETIC = {
    "alpha": lambda x: torch.add(x, x, alpha=3) - torch.sub(x, 1, alpha=2) + torch.rsub(x, 2),
    "divide": lambda x: (
        x / 3 + torch.div(x * 7, 2, rounding_mode="floor") + torch.div(-x * 7, 2, rounding_mode="trunc")
    ),
    "powers": lambda x: x**2 + x**0.5 + torch.rsqrt(x + 1) + torch.sqrt(x) + torch.exp(-x) + torch.expm1(x) + 2**x,
    "logs": lambda x: torch.log(x + 1) + torch.log1p(x) + torch.log2(x + 2) + torch.reciprocal(x + 1),
    "waves": lambda x: (
        torch.sin(x) + torch.cos(x) + torch.tan(x) + torch.atan2(x, x + 1) + torch.acos(x / 2) + torch.erf(x)
    ),
    "rounding": lambda x: (
        torch.floor(4 * x) + torch.ceil(3 * x) + torch.round(9 * x) + torch.trunc(-5 * x) + torch.sign(x - 0.5)
    ),
    "remainder": lambda x: torch.remainder(x - 0.5, 0.3) + torch.fmod(x - 0.5, 0.3) + (5 * x).abs().neg(),
    "clamps": lambda x: x.clamp(0.2, 0.8) + x.clamp(min=0.5) + x.clamp_min(0.4) + x.clamp_max(0.7) + F.hardtanh(3 * x),
    "rectified": lambda x: F.relu(x - 0.5) + F.relu6(9 * x) + F.leaky_relu(x - 0.5, 0.2) + F.elu(x - 0.5, 0.7),
    "smooth": lambda x: (
        F.gelu(x - 0.5) + F.gelu(x, approximate="tanh") + F.silu(x) + F.mish(x) + x.sigmoid() + x.tanh()
    ),
    "more": lambda x: F.softplus(x, 2, 1.5) + F.hardswish(4 * x) + F.hardsigmoid(x) + F.prelu(x - 0.5, RAMP[:3]),
    "selections": lambda x: torch.where(x > 0.5, x, -x) + x.masked_fill(x <= 0.3, 9.0) + torch.maximum(x, x.flip(2)),
    "comparisons": lambda x: (
        (x > 0.5).float() + (x >= 0.2) + (x == x) * 2.0 + (x != 0).to(x.dtype) + (x.lt(0.3) & (x > 0.1)).long()
    ),
    "composed": lambda x: torch.addcmul(x, x, x, value=0.5) + torch.addcdiv(x, x, x + 1) + torch.lerp(x, x * 2, 0.3),
    "integers": lambda x: (x * 10).int() * 0.5 + (x * 10).long() // 3 + (x.double() * 1.5).float() + x.half().float(),
    "scalars": lambda x: x * (x.shape[2] // 2) + x.size(0) / 4 + x * float(x.shape[1]) ** -0.5 + torch.tensor(2),
}
SHAPES = {
    "sizes": lambda x: x.view(x.shape[0], -1).reshape(-1, 6, 3, x.size(3)).permute(0, 2, 1, 3).contiguous(),
    "axes": lambda x: x.transpose(1, -1).swapaxes(0, 1).movedim(0, 2).unsqueeze(-1).squeeze(-1).unsqueeze(1).squeeze(),
    "flat": lambda x: x.flatten(1, 2).unflatten(1, (3, -1)).flatten() + x.view(-1).view_as(x).reshape_as(x).flatten(),
    "grown": lambda x: (
        x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 6) + x[:, :1].expand_as(x) + RAMP.expand(2, 1, 1, 6)[:1]
    ),
    "repeated": lambda x: x.repeat(1, 2, 1, 1)[:, ::2] + x.repeat_interleave(2, dim=3)[..., :6],
    "parts": lambda x: (
        x[:, 1:, 2:-1, ::2].select(1, 0) + x[:, -1, :3, [0, 5, 2]] * x.narrow(1, 1, 1).squeeze(1)[:, :3, :3]
    ),
    "picked": lambda x: (
        x[:, WHERE[0]].mean(1)
        + x.index_select(2, WHERE[1])[:, 0, :1]
        + x.flatten(1)[:, WHERE].sum((1, 2))[:, None, None]
    ),
    "gathered": lambda x: (
        x.gather(3, (x * 5).long()) + F.embedding((x[:, 0] * 5).long(), RAMP[:, None]).transpose(1, 3)[..., :1]
    ),
    "chunks": chunks,
    "joined": lambda x: torch.stack([x, x * 2], dim=1).flatten(1, 2) + torch.cat((x, x.roll((1, 2), (2, 3))), 1),
    "padded": lambda x: (
        F.pad(x, (1, 2, 0, 1)) + F.pad(x, (1, 2, 0, 1), mode="replicate") + F.pad(x, (2, 1, 1, 0), mode="reflect")
    ),
    "new": lambda x: (
        torch.zeros_like(x)
        + x.new_ones(x.shape[0], 1, 1, 1)
        + torch.full((1, 3, 1, 1), 2.0)
        + torch.arange(6)
        + torch.ones(6, dtype=x.dtype)
        + x.new_full((6,), 0.5)
        + torch.linspace(0, 1, 6)
        + torch.eye(6)
    ),
    "ranges": lambda x: (
        x * torch.arange(x.shape[3])[None] + torch.arange(1, 7) + torch.arange(0, 12, 2) + torch.ones(6, 6).tril()
    ),
}
REDUCTIONS = {
    "means": lambda x: x.mean() + x.mean(1) + x.sum((1, 2), keepdim=True)[:, 0] + x.sum() + x.prod(1),
    "extremes": lambda x: (
        x.amax((2, 3)) + x.max(3)[0].sum(2) + x.min(2).indices.sum(2) + x.argmax(3).sum(2) + x.min() + x.max()
    ),
    "norms": lambda x: (
        x.norm(dim=(2, 3)) + torch.linalg.norm(x.flatten(2), dim=-1) + x.norm(p=1, dim=3).sum(2) + x.norm()
    ),
    "unit": lambda x: F.normalize(x, dim=1) + F.normalize(x.flatten(2), p=1, dim=-1).view_as(x),
    "spread": lambda x: (
        x.var((2, 3)) + x.std(1).sum((1, 2))[:, None] + x.var(2, unbiased=False).sum(2) + x.cumsum(2)[..., -1, -1]
    ),
    "softmax": lambda x: x.softmax(-1) + F.log_softmax(x, 1) + torch.softmax(x, dim=2, dtype=torch.float32),
}
LAYERS = {
    "linear": lambda x: F.linear(x, BLOCK.view(4, 6), RAMP[:4]) + F.linear(x, BLOCK.view(4, 6)),
    "products": lambda x: torch.matmul(x, BLOCK.view(6, 4)) + torch.einsum("bchw,wk->bchk", x, BLOCK.view(6, 4)),
    "batched": lambda x: torch.bmm(x[:, 0], x[:, 1]) + torch.baddbmm(x[:, 0], x[:, 1], x[:, 2], beta=0.5, alpha=2),
    "added": lambda x: (
        torch.addmm(RAMP[:4], x[:, 0, 0], BLOCK.view(6, 4), alpha=0.3)
        + torch.mm(x[:, 1, 1], BLOCK.view(6, 4))
        + x[:, 0, :4] @ RAMP
    ),
    "convolved": lambda x: (
        F.conv2d(x, KERNEL, RAMP[:4], 2, 1) + F.conv2d(x, KERNEL, padding="same", dilation=2)[..., ::2, ::2]
    ),
    "grouped": lambda x: (
        F.conv2d(x[:, :2], KERNEL[:, :1], groups=2, padding=(1, 0)).sum(3)
        + F.conv1d(x[:, :, 0], KERNEL[:, :, 0], padding=1)
    ),
    "normed": lambda x: (
        F.layer_norm(x, (6,), RAMP, RAMP - 1) + F.layer_norm(x, x.shape[2:]) + F.group_norm(x, 3, RAMP[:3], RAMP[:3])
    ),
    "batch": lambda x: (
        F.batch_norm(x, RAMP[:3], RAMP[:3] + 0.2, RAMP[3:], RAMP[:3] - 0.5) + F.instance_norm(x, eps=1e-3)
    ),
    "pooled": lambda x: (
        F.max_pool2d(x, 3, 2, 1)
        + F.avg_pool2d(x, 2)
        + F.avg_pool2d(x, 3, 2, 1)
        + F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    ),
    "adaptive": lambda x: (
        F.adaptive_avg_pool2d(x, (4, 1)).expand(-1, -1, -1, 4)
        + F.adaptive_max_pool2d(x, 4)
        + F.adaptive_avg_pool2d(x, 1)
    ),
    "attention": lambda x: (
        F.scaled_dot_product_attention(x, x * 2, x, is_causal=True)
        + F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(6), scale=0.7)
    ),
    "masked": lambda x: F.scaled_dot_product_attention(x, x * 2, x, attn_mask=torch.ones(6, 6).tril() > 0),
}
RESIZING = {
    f"{mode} {size or scale} {corners} {smooth}": lambda x, o=(mode, size, scale, corners, smooth): F.interpolate(
        x, size=o[1], scale_factor=o[2], mode=o[0], align_corners=o[3], antialias=o[4]
    )
    for mode in ("bilinear", "bicubic", "nearest")
    for size, scale in (((4, 9), None), (None, 1.7), (None, (0.5, 2.1)), ((6, 6), None))
    for corners in ((False, True) if mode != "nearest" else (None,))
    for smooth in ((False, True) if mode != "nearest" and not corners else (False,))
}
GROUPS = {"arithmetic": ARITHMETIC, "shapes": SHAPES, "reductions": REDUCTIONS, "layers": LAYERS, "resizing": RESIZING}


class Together(torch.nn.Module):
    """All functions of a group on one input."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        found = {}
        for name, function in self.functions.items():
            values = function(x)
            for number, value in enumerate(values if isinstance(values, tuple) else [values]):
                found[f"{name} {number}"] = value.float()
        return found


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:Using padding")
def test_like_torch(tmp_path, group):
    """Traced with two pictures, run with three."""
    trace = read_trace(traced(Together(GROUPS[group]), tmp_path / "model.pt", size=6))
    x = np.random.default_rng(0).uniform(0.01, 0.99, size=(3, 3, 6, 6)).astype(np.float32)
    expected, found = run_torch(trace, x), check.run_fixed(trace.program, trace.weights, x)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_every_name_is_torchs():
    """A name that torch has not would never be met."""
    known = {schema.name for schema in torch._C._jit_get_all_schemas()}
    built_in = {"prim::NumToTensor", "prim::ListConstruct", "prim::TupleConstruct", "prim::ListUnpack"}
    marked = {name.removesuffix("_") for name in known}
    assert set(OPERATIONS) - known - marked - built_in - {"prim::TupleUnpack", "prim::TupleIndex"} == set()
