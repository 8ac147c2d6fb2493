"""Does a picture teach geometry? One head fitted to one view by the training objective, with no network in between.

    python benchmarks/overfit.py > benchmarks/results/overfit.json
    python benchmarks/overfit.py --views 2 --set losses.depth=0.5

What the networks would predict of each test person is a free variable here: shape, motion, light, surfels. All start
from the mean head and fit the landmarks of one photograph. From there one branch goes on with landmarks alone, the
other with the whole objective. The second must end closer to the true shape. Its picture of another photograph of the
same person must get better while it learns; that photograph's motion is fitted to landmarks with the shape held fixed.
With `--views 2` the other photograph is fitted as well.

The shape's error is the distance of the neutral face's vertices from the true identity's after alignment, root mean
square, over that of the mean head.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from shape_gradients import first_pairs
from timing import environment

from sheap_jax import assembly, config_files
from sheap_jax.config import Config
from sheap_jax.data.embedded.people import person_seed
from sheap_jax.data.records import Split
from sheap_jax.evaluation.alignment import procrustes
from sheap_jax.evaluation.embedded_set import CURRENT, VERSIONS, ensure_test_people
from sheap_jax.evaluation.image_scores import hull_mask, psnr
from sheap_jax.method import reanimation
from sheap_jax.method.objective import full_objective, geometry_objective
from sheap_jax.method.prototypes import init_prototypes
from sheap_jax.method.reanimation import Assets, Networks
from sheap_jax.models.estimator import EstimatorOutput
from sheap_jax.models.regressor import OUTPUTS, GaussianRegressor
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.embedded.head import embedded_shape
from sheap_jax.morphable.model import mean_params, neutral_vertices
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.types import Batch, Estimate, HeadParams, PrototypeState

Variables = dict[str, dict[str, Array]]  # {"estimator": ..., "regressor": ...}, as the networks' parameters
MOTION = ("expression", "rotations", "translation")
# Adam's learning rates, in the units of the variables.
RATES = {"shape": 0.03, "expression": 0.03, "rotations": 0.01, "translation": 0.001, "light": 0.03, "surfels": 0.05}


class FreeEstimator(NamedTuple):
    """Stands in for the estimator: returns the variables, whatever the images are. The first half are sources."""

    free_joints: tuple[int, ...]

    def apply(self, variables: dict[str, dict[str, Array]], images: Float[Array, "n h w 3"]) -> EstimatorOutput:
        own = variables["params"]
        motion = {name: own[name].reshape(-1, *own[name].shape[2:]) for name in MOTION}
        motion["rotations"] = _only(motion["rotations"], self.free_joints)
        head = HeadParams(shape=jnp.tile(own["shape"], (2, 1)), **motion)
        features = jnp.zeros((len(images), 1))
        return EstimatorOutput(Estimate(head, jnp.tile(own["light"], (2, 1)), features), features[:, None])


class FreeRegressor(NamedTuple):
    """Stands in for the regressor: its 14 outputs per prototype are the variables."""

    isotropic: bool = False
    source_colors: bool = False

    def apply(self, variables: dict[str, dict[str, Array]], features: Array, context: Array, prototypes, *_: Any):
        return GaussianRegressor().apply(
            {}, variables["params"]["surfels"], prototypes, method=GaussianRegressor.activate
        )


class Fit(NamedTuple):
    """What stays fixed while variables are fitted."""

    config: Config
    networks: Networks
    assets: Assets
    prototypes: PrototypeState


def make_fit(config: Config, model: MorphableModel) -> Fit:
    free = tuple(i for i, name in enumerate(model.joint_names) if name in config.estimator.free_joints)
    stand_ins: Any = (FreeEstimator(free), FreeRegressor())
    prototypes = init_prototypes(model.faces.shape[0], per_face=config.prototypes.per_face)
    return Fit(config, Networks(*stand_ins), assembly.build_assets(config, model), prototypes)


def mean_heads(fit: Fit, people: int) -> Variables:
    """Mean heads in mean light, covered with grey surfels; motion of source and target."""
    params = mean_params(fit.assets.model, 2, people)
    estimator = {name: getattr(params, name) for name in MOTION} | {"shape": params.shape[0]}
    light = jnp.zeros((people, fit.config.estimator.light_components))
    surfels = jnp.zeros((people, fit.prototypes.parent_face.shape[0], OUTPUTS))
    return {"estimator": estimator | {"light": light}, "regressor": {"surfels": surfels}}


def descend(
    fit: Fit, variables: Variables, batch: Batch, *, rendered: bool, steps: int, fixed: tuple[str, ...] = ()
) -> list[Variables]:
    """Adam on the training objective, with pictures or with landmarks and priors alone; those in `fixed` stay.

    Returns the variables after an eighth of the steps, two eighths ... and all of them.
    """
    settings = assembly.render_settings(fit.config)
    weights, people = fit.config.losses, len(batch.record)
    probe = jnp.zeros((people, fit.prototypes.parent_face.shape[0], 2))
    schedule = optax.cosine_decay_schedule(1.0, steps, alpha=0.1)
    optimizer = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(schedule))

    def loss(variables: Variables, batch: Batch) -> Array:
        if rendered:
            shared = (fit.networks, fit.assets, fit.prototypes, batch, weights, settings)
            return people * full_objective(variables, probe, *shared)[0]
        return people * geometry_objective(variables, fit.networks, fit.assets, batch, weights, settings.size)[0]

    def rate(path: tuple, update: Array) -> Array:
        return 0.0 * update if path[-1].key in fixed else RATES[path[-1].key] * update

    @jax.jit
    def eighth(variables: Variables, state: Any, batch: Batch) -> tuple[Variables, Any]:
        def step(carry: tuple[Variables, Any], _: None) -> tuple[tuple[Variables, Any], None]:
            variables, state = carry
            updates, state = optimizer.update(jax.grad(loss)(variables, batch), state)
            updates = jax.tree_util.tree_map_with_path(rate, updates)
            return (optax.apply_updates(variables, updates), state), None

        return jax.lax.scan(step, (variables, state), None, length=max(steps // 8, 1))[0]

    state, snapshots = optimizer.init(variables), []
    for _ in range(8):
        variables, state = eighth(variables, state, batch)
        snapshots.append(variables)
    return snapshots


def picture_error(fit: Fit, variables: Variables, batch: Batch) -> float:
    """PSNR of the target within the hull of its landmarks, mean over people, dB."""

    @jax.jit
    def render(variables: Variables) -> Float[Array, "b h w 3"]:
        pair = reanimation.estimate_pair(fit.networks, variables, fit.assets, batch.source.image, batch.target.image)
        avatar = reanimation.build_avatar(fit.networks, variables, fit.assets, fit.prototypes, pair)
        settings = assembly.render_settings(fit.config)
        background = reanimation.border_color(batch.target.image)
        return reanimation.render(
            fit.assets, avatar, pair.target.vertices, background, **settings._asdict()
        ).surfels.color

    target = np.asarray(batch.target.image)
    masks = [hull_mask(points, height=target.shape[1], width=target.shape[2]) for points in batch.target.landmarks]
    return float(np.mean(psnr(np.clip(np.asarray(render(variables)), 0, 1), target, np.stack(masks))))


def shape_ratio(model: MorphableModel, shape: Float[Array, "b s"], true: Float[np.ndarray, "b s"]) -> dict[str, float]:
    """The error of the shapes over that of the mean head, with the standard error of their mean difference."""
    face = np.asarray(model.regions["face"]) > 0.5
    ours, truth, mean = (np.asarray(neutral_vertices(model, jnp.asarray(s)))[:, face] for s in (shape, true, 0 * true))

    def error(one: np.ndarray, other: np.ndarray) -> float:
        return 1e3 * float(
            np.sqrt(np.mean(np.sum((procrustes(one, other, with_scale=True).apply(one) - other) ** 2, -1)))
        )

    own, baseline = (np.array([error(*pair) for pair in zip(heads, truth, strict=True)]) for heads in (ours, mean))
    spread = float(np.std(own - baseline, ddof=1) / np.sqrt(len(own))) if len(own) > 1 else 0.0
    return {"rms_mm": float(own.mean()), "ratio": float(own.sum() / baseline.sum()), "standard_error_mm": spread}


def _only(rotations: Float[Array, "n j 3"], joints: tuple[int, ...]) -> Float[Array, "n j 3"]:
    """The rotations of `joints`, none for the others."""
    return rotations * jnp.zeros((rotations.shape[1], 1)).at[jnp.array(joints)].set(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/small.py", help="loss weights, image size and light are its")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of it")
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--steps", type=int, default=300, help="of each branch; as many on landmarks before")
    parser.add_argument("--views", type=int, default=1, choices=(1, 2))
    options = parser.parse_args()
    jax.config.update("jax_compilation_cache_dir", str(Path(".cache/xla").absolute()))
    changed = [f"--config.{one}" for one in options.set]
    config = config_files.parse_arguments([*changed, "--config", options.config], default="", description="")
    model = load_morphable(config.morphable)
    fit = make_fit(config, model)
    pairs, numbers = first_pairs(Split(ensure_test_people(), "test"), options.people, image_size=config.image_size)
    pairs = jax.tree.map(jnp.asarray, pairs)
    seeds = [person_seed("test", number, VERSIONS[CURRENT]) for number in numbers]
    true = np.stack([embedded_shape(seed) for seed in seeds])

    seen = pairs if options.views == 2 else pairs._replace(target=pairs.source)
    start = descend(fit, mean_heads(fit, len(numbers)), seen, rendered=False, steps=options.steps)[-1]
    longer = descend(fit, start, seen, rendered=False, steps=options.steps)[-1]
    snapshots = descend(fit, start, seen, rendered=True, steps=options.steps)
    results = {
        "landmarks": shape_ratio(model, start["estimator"]["shape"], true),
        "landmarks, twice the steps": shape_ratio(model, longer["estimator"]["shape"], true),
    }
    for name, found in (("pictures, an eighth of the steps", snapshots[0]), ("pictures", snapshots[-1])):
        moved = descend(fit, found, pairs, rendered=False, steps=options.steps, fixed=("shape",))[-1]
        results[name] = shape_ratio(model, found["estimator"]["shape"], true) | {
            "seen_psnr_db": picture_error(fit, found, seen),
            "novel_psnr_db": picture_error(fit, moved, pairs),
        }
    report = environment() | {"config": config.name, "set": options.set, "people": len(numbers), "views": options.views}
    print(json.dumps(report | {"results": results}, indent=1))


if __name__ == "__main__":
    main()
