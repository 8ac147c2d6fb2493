"""The pictures of README.md and docs/: a trained run on generated people and on two public-domain portraits.

    sheap train
    python benchmarks/pictures.py runs/quickstart --output docs/pictures

Writes people.jpg (photograph, predicted mesh over it, predicted head, true head, and the person's surfels moved like
the next person), portraits.jpg, clips.jpg (what the training sees) and surfels.jpg (one photograph drawn with 1,500
surfels; no training run behind it). The people are the first ones of the embedded benchmark, photographed with more
pixels. Portraits, both in the public domain: Eileen Collins by NASA, which scikit-image holds; Grace Hopper by James
S. Davis, US Navy, which matplotlib holds.
"""

import argparse
import dataclasses
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import matplotlib.cbook
import numpy as np
import optax
import skimage.data
import tileraster
from jaxtyping import Float, Int, UInt8

from sheap_jax import Predictor
from sheap_jax.cropping import crop_box, crop_image
from sheap_jax.data.embedded.dataset import generate
from sheap_jax.data.embedded.truth import load_truth
from sheap_jax.data.frames import frame_batches
from sheap_jax.data.records import Split
from sheap_jax.evaluation.embedded_set import CURRENT, VERSIONS
from sheap_jax.files.pictures import grid, overlay, save_picture, shade
from sheap_jax.geometry import official_camera
from sheap_jax.method.rendering import render_mesh
from sheap_jax.morphable import forward

PAPER = 1.0  # colour behind a head that has no photograph
# Left, top, right, bottom of the 68 landmarks in pixels: made once with MediaPipe's Face Landmarker.
ASTRONAUT, HOPPER = (180.9, 86.6, 270.2, 177.4), (170.7, 158.3, 355.7, 334.6)
SURFELS, FIT_STEPS = 1_500, 150


def head_views(
    vertices: Float[np.ndarray, "n v 3"], faces: Int[np.ndarray, "f 3"], photographs: Float[np.ndarray, "n h w 3"]
) -> tuple[np.ndarray, np.ndarray]:
    """Posed heads over their photographs, and by themselves: two times [n, h, w, 3]."""
    size = photographs.shape[1]
    draw = jax.jit(lambda v: render_mesh(v[None], faces, official_camera(size), width=size, height=size))
    over, alone = [], []
    for photograph, head in zip(photographs, jnp.asarray(vertices), strict=True):
        mesh = jax.tree.map(lambda x: np.asarray(x)[0], draw(head))
        over.append(overlay(photograph, mesh.normal, mesh.mask))
        alone.append(np.where(mesh.mask[..., None], shade(mesh.normal), PAPER))
    return np.stack(over), np.stack(alone)


def predicted_views(predictor: Predictor, photographs: Float[np.ndarray, "n h w 3"]) -> tuple[np.ndarray, np.ndarray]:
    """`head_views` of the heads that a run predicts from photographs, which it gets with as many pixels as it knows."""
    side = predictor.config.image_size
    seen = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in photographs])
    heads = predictor(np.clip(seen, 0.0, 1.0))
    return head_views(np.asarray(forward(predictor.model, heads)), predictor.model.faces, photographs)


def moved_views(predictor: Predictor, photographs: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w 3"]:
    """Each person's surfels with the pose and expression of the next, drawn with as many pixels as the run knows."""
    side, size = predictor.config.image_size, photographs.shape[1]
    seen = np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in photographs])
    drawn = predictor.reanimate(np.clip(seen, 0.0, 1.0), np.clip(np.roll(seen, -1, axis=0), 0.0, 1.0))
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in drawn])


def people_picture(predictor: Predictor, directory: Path, *, size: int, people: int) -> UInt8[np.ndarray, "y x 3"]:
    """The first people of the embedded benchmark, each with what was predicted and what is true."""
    first = {"test_identities": people, "image_size": size, "processes": 1}
    shards = generate(directory, dataclasses.replace(VERSIONS[CURRENT], **first))
    truth = load_truth(shards, "test")
    batches = frame_batches(shards, "test", batch_size=len(truth.posed), image_size=size)
    photographs = np.concatenate([np.asarray(batch.frame.image)[batch.valid] for batch in batches])
    chosen = np.unique(truth.identity_index, return_index=True)[1]  # the first photograph of each
    print("people.jpg shows", ", ".join(Split(shards, "test").key(record) for record in chosen))
    photographs = photographs[chosen]
    over, alone = predicted_views(predictor, photographs)
    _, true = head_views(truth.posed[chosen], truth.faces, photographs)
    columns = {
        "photograph": photographs,
        "predicted mesh": over,
        "predicted head": alone,
        "true head": true,
        "moved like the next": moved_views(predictor, photographs),
    }
    return grid(list(zip(*columns.values(), strict=True)), captions=list(columns))


def portraits_picture(predictor: Predictor, *, size: int) -> UInt8[np.ndarray, "y x 3"]:
    """Two portraits, cropped as predict.py does: photograph, mesh over it, head."""
    crops = []
    for image, box in ((skimage.data.astronaut(), ASTRONAUT), (grace_hopper(), HOPPER)):
        face = crop_box(np.array(box, np.float64).reshape(2, 2))
        crops.append(crop_image(np.ascontiguousarray(image), face, size).astype(np.float32) / 255)
    photographs = np.stack(crops)
    columns = zip(photographs, *predicted_views(predictor, photographs), strict=True)
    return grid([[image for row in columns for image in row]])


def surfels_picture(*, side: int, count: int, steps: int) -> UInt8[np.ndarray, "y x 3"]:
    """A photograph, surfels that were fitted to it, and the same surfels at half their size, then from the side."""
    photo = jnp.asarray(cv2.resize(grace_hopper()[40:424, 80:464], (side, side), interpolation=cv2.INTER_AREA) / 255.0)
    keys = jax.random.split(jax.random.key(0), 2)
    spread = jax.random.uniform(keys[0], (count, 3), minval=-0.5, maxval=0.5)
    params = {
        "means": spread + jnp.array([0.0, 0.0, 1.2]),
        "quats": jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (count, 1)),
        "scales": jnp.full((count, 2), -4.0),
        "opacities": jnp.zeros(count),
        "colors": jax.random.normal(keys[1], (count, 3)),
    }
    intrinsics = jnp.array([[side, 0, side / 2], [0, side, side / 2], [0, 0, 1.0]])

    def render(p, viewmat, size=1.0):
        scales, opacities, colors = size * jnp.exp(p["scales"]), *map(jax.nn.sigmoid, (p["opacities"], p["colors"]))
        camera = {"viewmats": viewmat, "intrinsics": intrinsics, "width": side, "height": side}
        return tileraster.rasterize_surfels(p["means"], p["quats"], scales, opacities, colors, **camera).color

    optimizer = optax.adam(0.02)
    state = optimizer.init(params)

    @jax.jit
    def improve(params, state):
        gradient = jax.grad(lambda p: jnp.mean(jnp.abs(render(p, jnp.eye(4)) - photo)))(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = improve(params, state)
    middle = jnp.array([0.0, 0.0, 1.2])
    turn = jnp.array([[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]])
    aside = jnp.eye(4).at[:3, :3].set(turn).at[:3, 3].set(middle - turn @ middle)
    views = [photo, render(params, jnp.eye(4)), render(params, jnp.eye(4), 0.5), render(params, aside, 0.5)]
    return grid([[np.asarray(view) for view in views]])


def grace_hopper() -> UInt8[np.ndarray, "h w 3"]:
    return cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))[..., ::-1].copy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a training run")
    parser.add_argument("--output", metavar="DIR", type=Path, required=True)
    parser.add_argument("--people", type=int, default=4, help="how many are shown")
    parser.add_argument("--size", type=int, default=224, help="pixels of one photograph")
    parser.add_argument("--fit-steps", type=int, default=FIT_STEPS, help="of surfels.jpg")
    options = parser.parse_args()
    predictor = Predictor.from_checkpoint(options.run)
    directory = Path(f".cache/pictures-{options.people}-{options.size}")
    options.output.mkdir(parents=True, exist_ok=True)
    made = {
        "people": people_picture(predictor, directory, size=options.size, people=options.people),
        "portraits": portraits_picture(predictor, size=options.size),
        "clips": cv2.imread(str(directory / "samples.png"))[: options.size, :, ::-1],  # its first row
        "surfels": surfels_picture(side=192, count=SURFELS, steps=options.fit_steps),
    }
    for name, picture in made.items():
        save_picture(picture, options.output / f"{name}.jpg")
        print(f"{options.output / name}.jpg: {picture.shape[1]} x {picture.shape[0]} pixels")


if __name__ == "__main__":
    main()
