"""Networks in the layouts that the official release may have, small enough to trace in a test. Needs torch."""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, SIZES = 16, 2, {"shape_from_facenet": 300, "expr": 100, "cam_trans": 3, "eyelids": 2}
POSES = ("torso_pose", "neck_pose", "jaw_pose", "eye_l_pose", "eye_r_pose")
OFFICIAL = SIZES | dict.fromkeys(POSES, 3)


class Pair(NamedTuple):
    shape: torch.Tensor
    pose: torch.Tensor


class CarefulNorm(nn.LayerNorm):
    """As CLIP's: in single precision, whatever comes."""

    def forward(self, input):
        return super().forward(input.type(torch.float32)).type(input.dtype)


class Attention(nn.Module):
    """nn.MultiheadAttention, F.scaled_dot_product_attention, or every step of it."""

    def __init__(self, style: str):
        super().__init__()
        self.style = style
        self.fused = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        if self.style == "module":
            return self.fused(x, x, x, need_weights=False)[0]
        if self.style == "weights":
            return self.fused(x, x, x, need_weights=True)[0]
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        if self.style == "function":
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
            mixed = F.dropout(scores.softmax(dim=-1), 0.1, self.training) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))


class Block(nn.Module):
    def __init__(self, style: str):
        super().__init__()
        self.ln_1, self.ln_2, self.attn = CarefulNorm(WIDTH), CarefulNorm(WIDTH), Attention(style)
        self.c_fc, self.c_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.gain = nn.Parameter(torch.full((WIDTH,), 0.5))
        self.timm = style == "function"  # exact GELU and layer scale, else QuickGELU

    def forward(self, x):
        x = x + (self.gain * self.attn(self.ln_1(x)) if self.timm else self.attn(self.ln_1(x)))
        hidden = self.c_fc(self.ln_2(x))
        hidden = F.gelu(hidden) if self.timm else hidden * torch.sigmoid(1.702 * hidden)
        return x + self.c_proj(hidden)


class Trunk(nn.Module):
    """A small convolutional network with batch norm, in place ReLU and a residual, and unit features."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.deep, self.deep_norm = nn.Conv2d(8, 8, 3, 1, 1, groups=2), nn.BatchNorm2d(8)
        self.active, self.out = nn.PReLU(8), nn.Linear(8, 300)
        for norm in (self.norm, self.deep_norm):
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 1.5)

    def forward(self, image):
        small = F.interpolate(image, size=(32, 32), mode="bilinear", align_corners=False)
        x = F.max_pool2d(F.relu(self.norm(self.conv((small - 0.5) / 0.25)), inplace=True), 3, 2, 1)
        x = self.active(self.deep_norm(self.deep(x)) + x)
        return self.out(F.normalize(F.adaptive_avg_pool2d(x, 1).flatten(1)))


class Network(nn.Module):
    """A CLIP-like transformer with five tokens appended, a head for each output and a trunk for the identity."""

    def __init__(self, style: str = "function", *, sizes=OFFICIAL, form: str = "dict", patch: int = 32):
        super().__init__()
        self.sizes, self.form = dict(sizes), form
        self.conv1 = nn.Conv2d(3, WIDTH, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn(1 + (224 // patch) ** 2, WIDTH) * 0.1)
        self.tokens = nn.Parameter(torch.randn(1, 5, WIDTH))
        self.ln_pre, self.ln_post = CarefulNorm(WIDTH), CarefulNorm(WIDTH)
        self.blocks = nn.Sequential(Block(style))
        self.trunk = Trunk()
        self.register_buffer("mean", torch.tensor([0.48, 0.46, 0.41]).view(1, 3, 1, 1))
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, size))
                for name, size in self.sizes.items()
                if name != "shape_from_facenet"
            }
        )

    def forward(self, image):
        x = self.conv1((image - self.mean) / 0.27)
        x = x.reshape(x.shape[0], x.shape[1], -1).permute(0, 2, 1)
        start = self.class_embedding + torch.zeros(x.shape[0], 1, x.shape[-1], dtype=x.dtype, device=x.device)
        x = torch.cat([start, x], dim=1) + self.positional_embedding
        x = torch.cat([self.ln_pre(x), self.tokens.expand(x.shape[0], -1, -1)], dim=1)
        tokens = self.ln_post(self.blocks(x)[:, -5:]).unbind(1)
        found = {name: head(tokens[number % 5]) for number, (name, head) in enumerate(self.heads.items())}
        found["shape_from_facenet"] = self.trunk(image)
        if "uncertainty" in found:
            found["uncertainty"] = F.softplus(found["uncertainty"]) + 1e-3
        found["cam_trans"] = torch.tanh(found["cam_trans"]) * 0.1
        if self.form == "dict":
            return found
        pair = found["shape_from_facenet"], found["torso_pose"]
        return Pair(*pair) if self.form == "namedtuple" else pair


def traced(network: nn.Module, path, *, batch: int = 2, size: int = 224, frozen: bool = False):
    """Save a trace of a network in evaluation mode."""
    with torch.no_grad():
        trace = torch.jit.trace(network.eval(), torch.rand(batch, 3, size, size), strict=False, check_trace=False)
        torch.jit.save(torch.jit.freeze(trace) if frozen else trace, str(path))
    return path
