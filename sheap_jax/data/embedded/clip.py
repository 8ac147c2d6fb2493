"""One generated person: the records and the ground truth of all its clips. Runs in a worker process."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from scipy.spatial.transform import Rotation

from sheap_jax.config import EmbeddedData
from sheap_jax.data.codec import Record
from sheap_jax.data.embedded import clothes, hair
from sheap_jax.data.embedded.accessories import draw_accessories, put_on
from sheap_jax.data.embedded.chart import texel_grid
from sheap_jax.data.embedded.detector import draw_noise, frame_heads
from sheap_jax.data.embedded.layers import Posed
from sheap_jax.data.embedded.light_and_backdrop import draw_lights, paint_backdrop
from sheap_jax.data.embedded.motion import SECONDS_PER_FRAME, Motion, draw_motion, tracks
from sheap_jax.data.embedded.people import FilmedPerson
from sheap_jax.data.embedded.render import ClipTextures, finish, render
from sheap_jax.data.embedded.scene_meshes import SceneMeshes, dressed_model
from sheap_jax.data.embedded.skin import paint_skin
from sheap_jax.data.embedded.traits import Traits, draw_traits, vary_looks
from sheap_jax.data.embedded.variety import VARIETIES, Variety
from sheap_jax.morphable.model import MorphableModel, forward, landmarks
from sheap_jax.types import HeadParams

CROP_JITTER = np.array([0.02, 0.02, 0.04])  # x and y in image sizes, logarithm of the size
BODY_SHARE = 0.7  # of the root's turn that the shoulders make


class PersonClips(NamedTuple):
    """All clips of one person; arrays over the frames of all clips in record order."""

    records: list[Record]
    posed: Float32[np.ndarray, "n v 3"]
    landmarks3d: Float32[np.ndarray, "n 68 3"]
    landmarks2d: Float32[np.ndarray, "n 68 2"]
    head: np.ndarray  # [n, h, w] bool: pixels that show the head


class _Appearance(NamedTuple):
    """What stays the same in all clips of a person."""

    traits: Traits
    skin: Float[np.ndarray, "h w 4"]
    hair: Float[np.ndarray, "s s 4"]
    shell: hair.HairShell
    model: MorphableModel


def film(person: FilmedPerson, model: MorphableModel, meshes: SceneMeshes, config: EmbeddedData) -> PersonClips:
    """All clips of one person; depends on nothing but the arguments."""
    look = _appearance(person, model, meshes, VARIETIES[config.variety])
    clips = [_film_clip(person, look, meshes, config, number) for number in range(config.clips_per_identity)]
    arrays = [np.concatenate(parts) for parts in zip(*(clip[1:] for clip in clips), strict=True)]
    return PersonClips([record for clip in clips for record in clip.records], *arrays)


def _appearance(person: FilmedPerson, model: MorphableModel, meshes: SceneMeshes, variety: Variety) -> _Appearance:
    rng = np.random.default_rng([*person.entropy, 0])
    traits = draw_traits(person.population, rng)
    traits = vary_looks(traits, np.random.default_rng([*person.entropy, 0, 1]), variety)
    azimuth = texel_grid()[0]
    dense = np.linspace(-np.pi, np.pi, 361)
    edge = hair.hairline(traits.haircut, dense, rng)
    shell = hair.grow_hair(person.neutral, traits, rng, np.interp(hair.meridians(), dense, edge))
    return _Appearance(
        traits=traits,
        skin=paint_skin(np.asarray(meshes.landmarks), np.interp(azimuth, dense, edge), traits, rng),
        hair=hair.paint_hair(traits, rng),
        shell=shell,
        model=dressed_model(model, person.neutral, shell.vertices),
    )


def _film_clip(
    person: FilmedPerson, look: _Appearance, meshes: SceneMeshes, config: EmbeddedData, number: int
) -> PersonClips:
    rng = np.random.default_rng([*person.entropy, 1 + number])
    frames, size = config.frames_per_clip, config.image_size
    variety = VARIETIES[config.variety]
    motion = draw_motion(rng, look.model, frames, variety)
    vertices, points = (np.asarray(value) for value in _pose(look.model, motion))
    noise = draw_noise(rng, frames, level=config.landmark_noise, missing=config.missing_landmarks)
    jitter = CROP_JITTER * tracks(rng, SECONDS_PER_FRAME * np.arange(frames), 0.8, 3)
    framing = frame_heads(points, noise, jitter, size=size)
    vertices = vertices + framing.translation[:, None]
    posed = _in_scene(look.model, vertices, framing.translation, motion, clothes.shoulders(rng))
    coverage = look.traits.haircut.coverage
    textures = ClipTextures(
        skin=look.skin,
        hair=look.hair,
        cloth=clothes.paint_cloth(look.traits.skin, rng),
        iris=look.traits.iris,
        hair_amount=float(coverage > 0.3),
        backdrop=paint_backdrop(rng, variety),
    )
    picture = render(meshes, posed, look.shell.strand, textures, draw_lights(rng, variety),
                     size=size, supersampling=config.supersampling)  # fmt: skip
    clip = f"{number:02d}"
    wearing = np.random.default_rng([*person.entropy, 1 + number, 1])  # its own, so that it changes no other draw
    worn = draw_accessories(wearing, variety)
    images = [put_on(picture.image[i], framing.exact[i], worn, wearing) for i in range(frames)]
    records = [
        Record(person.name, clip, i, _encode(finish(images[i], rng), rng), framing.detected[i], noise.weights[i])
        for i in range(frames)
    ]
    head = vertices[:, : len(person.neutral)]
    translated = points + framing.translation[:, None]
    return PersonClips(records, head.astype(np.float32), translated.astype(np.float32),
                   framing.exact.astype(np.float32), picture.head)  # fmt: skip


@jax.jit
def _pose(model: MorphableModel, motion: Motion) -> tuple[Float[Array, "n v 3"], Float[Array, "n 68 3"]]:
    """Posed vertices and landmarks before translation."""
    frames = motion.expression.shape[0]
    params = HeadParams(jnp.zeros((frames, 0)), motion.expression, motion.rotations, jnp.zeros((frames, 3)))
    vertices = forward(model, params)
    return vertices, landmarks(model, vertices, params.rotations)


def _in_scene(
    model: MorphableModel,
    vertices: Float[np.ndarray, "n v 3"],
    translation: Float[np.ndarray, "n 3"],
    motion: Motion,
    garment: Float[np.ndarray, "g 3"],
) -> Posed:
    """Split head from hair and add the garment, which turns about the root joint less than the head."""
    count = vertices.shape[1] - hair.SHELL_VERTICES  # head and teeth
    base = np.asarray(model.joint_regressor[0] @ model.template)
    body = Rotation.from_rotvec(BODY_SHARE * np.asarray(motion.rotations[:, 0])).as_matrix()
    worn = garment @ np.swapaxes(body, 1, 2) + base + translation[:, None]
    root, neck = np.moveaxis(np.asarray(motion.rotations[:, :2]), 1, 0)
    skull = Rotation.from_rotvec(root) * Rotation.from_rotvec(neck)
    return Posed(
        solid=jnp.asarray(np.concatenate([vertices[:, :count], worn], axis=1), jnp.float32),
        hair=jnp.asarray(vertices[:, count:]),
        head_rotation=jnp.asarray(skull.as_matrix(), jnp.float32),
    )


def _encode(image: np.ndarray, rng: np.random.Generator) -> bytes:
    """JPEG with a camera's quality."""
    import cv2

    quality = int(rng.integers(82, 97))
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return encoded.tobytes()
