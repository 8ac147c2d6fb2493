"""Parameters, FLOPs and activation memory of each network of a configuration:

    sheap summary base

Nothing is computed: shapes come from jax.eval_shape, FLOPs and memory from XLA's analysis of the program compiled for
this process's device, for one image. A loop's body counts once in XLA's FLOPs; there are none in these networks.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from sheap_jax import command_line, config_files
from sheap_jax.config import Config
from sheap_jax.config_checks import check_config
from sheap_jax.method.source_colors import unseen
from sheap_jax.models import build
from sheap_jax.models.dinov2 import dinov2_network, patch_features
from sheap_jax.models.graph_network import FaceNeighbourhood, GraphNetwork, face_neighbourhood
from sheap_jax.models.perceptual import Lpips
from sheap_jax.models.regressor import OUTPUTS
from sheap_jax.models.uv_generator import UvGenerator
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.types import PrototypeState

ERRORS = (OSError, ValueError)
FLAME = build.HeadSizes(
    300, tuple(f"expression_{i}" for i in range(100)), ("root", "neck", "jaw", "left_eye", "right_eye"), "flame"
)
FLAME_FACES, FLAME_NEIGHBOURS = 9976, 10
DINOV2_B = {"style": "dinov2", "patch": 14, "width": 768, "depth": 12, "grid": 37, "heads": 12}


class Cost(NamedTuple):
    """What one network costs for one image."""

    name: str
    parameters: int
    flops: float  # forward
    forward_bytes: int  # temporary memory of the forward pass
    gradient_bytes: int  # and of forward and backward together


class Part(NamedTuple):
    """A network and the shapes of its inputs."""

    name: str
    apply: Callable[..., Any]  # of parameters and inputs
    params: Any  # shapes
    inputs: tuple[Any, ...]  # shapes
    frozen: bool = False  # no gradient with respect to its parameters


class Sizes(NamedTuple):
    """What the networks must know of a head model."""

    head: build.HeadSizes
    neighbourhood: FaceNeighbourhood  # shapes


def summarize(config: Config) -> list[Cost]:
    """The cost of each network of a configuration; shows its progress, since large ones compile for minutes."""
    sizes, notes = head_of(config)
    found, more = parts_of(config, sizes)
    for note in notes + more:
        print(note)
    return [measure(part) for part in tqdm(found, desc="compiling", unit="network")]


def head_of(config: Config) -> tuple[Sizes, list[str]]:
    """Sizes of the head model; FLAME's, with a note, where its file is missing."""
    if config.morphable.startswith("embedded") or Path(config.morphable).exists():
        model = load_morphable(config.morphable)
        return Sizes(build.head_sizes(model), shapes_of(face_neighbourhood(np.asarray(model.faces)))), []
    shape = (FLAME_FACES, FLAME_NEIGHBOURS)
    index, weight = jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, jnp.float32)
    note = f"{config.morphable} is missing: taking the sizes of FLAME"
    return Sizes(FLAME, FaceNeighbourhood(index, weight)), [note]  # pyright: ignore[reportArgumentType]


def parts_of(config: Config, sizes: Sizes) -> tuple[list[Part], list[str]]:
    """The networks of a configuration, and a note on each weight file that is missing."""
    notes: list[str] = []
    image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    estimator = build.build_estimator(config, sizes.head)
    parts = [part("estimator", estimator, image)]
    output = jax.eval_shape(parts[0].apply, parts[0].params, image)
    context = output.patch_tokens
    if config.weights.dinov2:
        there = Path(config.weights.dinov2).exists()
        network = build.build_dinov2(config) if there else None
        if network is None:
            network = dinov2_network(DINOV2_B, dtype=build.network_dtype(config))
            notes.append(f"{config.weights.dinov2} is missing: taking the sizes of DINOv2 B/14")
        params = part("", network, jax.ShapeDtypeStruct((1, network.patch, network.patch, 3), jnp.float32)).params
        parts.append(
            Part("DINOv2", lambda p, x: patch_features(network, p["params"], x), params, (image,), frozen=True)
        )
        context = jax.eval_shape(parts[-1].apply, params, image)
    parts += regressor_parts(config, sizes, output.estimate.features, context)
    if config.weights.lpips:
        lpips = part("LPIPS", Lpips(dtype=build.network_dtype(config)), image, image)
        parts.append(lpips._replace(frozen=True))
    return parts, notes


def regressor_parts(config: Config, sizes: Sizes, features: Any, context: Any) -> list[Part]:
    """UV generator and graph network, or whatever stands for them in an ablation."""
    regressor = build.build_regressor(config)
    faces = sizes.neighbourhood.index.shape[0]
    prototypes = prototype_shapes(round(faces * config.prototypes.capacity_per_face))
    count = prototypes.parent_face.shape[0]
    if regressor.kind != "graph":
        anchors = jax.ShapeDtypeStruct((count, 2), jnp.float32)
        colors = jax.eval_shape(unseen, prototypes) if regressor.source_colors else None
        inputs = (features, context, prototypes, anchors, sizes.neighbourhood, colors)
        return [part(f"regressor ({regressor.kind})", regressor, *inputs)]
    generator = UvGenerator(
        regressor.uv_size,
        regressor.uv_channels,
        widest=regressor.uv_widest,
        attention_size=regressor.attention_size,
        dtype=regressor.dtype,
    )
    nodes = jax.ShapeDtypeStruct((count, 1, regressor.width), regressor.dtype)
    graph = GraphNetwork(regressor.width, regressor.depth, OUTPUTS, regressor.dtype)
    return [
        part("UV generator", generator, features, context),
        part("graph network", graph, nodes, prototypes, sizes.neighbourhood),
    ]


def part(name: str, module: Any, *inputs: Any) -> Part:
    return Part(name, module.apply, jax.eval_shape(module.init, jax.random.key(0), *inputs), inputs)


def prototype_shapes(count: int) -> PrototypeState:
    number, flag = jax.ShapeDtypeStruct((count,), jnp.float32), jax.ShapeDtypeStruct((count,), jnp.bool_)
    parent, corners = jax.ShapeDtypeStruct((count,), jnp.int32), jax.ShapeDtypeStruct((count, 3), jnp.float32)
    shapes: Any = (parent, corners, flag, number, number)
    return PrototypeState(*shapes)


def shapes_of(tree: Any) -> Any:
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), tree)


def measure(part: Part) -> Cost:
    """Compile a part's forward pass, and its gradient: of the first input and, unless frozen, the parameters."""

    def loss(params, first, *rest):
        return sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(part.apply(params, first, *rest)))

    forward = jax.jit(part.apply).lower(part.params, *part.inputs).compile()
    gradient = jax.jit(jax.grad(loss, argnums=1 if part.frozen else (0, 1))).lower(part.params, *part.inputs).compile()
    analysis: Any = forward.cost_analysis()
    return Cost(
        part.name,
        sum(leaf.size for leaf in jax.tree.leaves(part.params)),
        float(analysis["flops"]),
        temporary_bytes(forward),
        temporary_bytes(gradient),
    )


def temporary_bytes(compiled: Any) -> int:
    return int(compiled.memory_analysis().temp_size_in_bytes)


def table(costs: list[Cost]) -> str:
    """The costs as text, one network per line, with their sum."""
    total = Cost("all", *(sum(column) for column in list(zip(*costs, strict=True))[1:]))
    lines = [f"{'':18}{'parameters':>12}{'GFLOP':>9}{'forward':>12}{'with gradient':>15}"]
    for cost in [*costs, total]:
        memory = f"{cost.forward_bytes / 2**20:8.1f} MiB{cost.gradient_bytes / 2**20:11.1f} MiB"
        lines.append(f"{cost.name:18}{cost.parameters:12,}{cost.flops / 1e9:9.2f}{memory}")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Command line."""
    parser = command_line.make_parser("summary", __doc__, urls=("config",))
    parser.add_argument("config", metavar="CONFIG", help="name or file of a configuration, as for sheap train")
    options = parser.parse_args(arguments)
    config = config_files.load_file(options.config)
    check_config(config)
    costs = summarize(config)
    print(f"{config.name}: one image of {config.image_size} pixels, on {jax.default_backend()}")
    print(table(costs))


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
