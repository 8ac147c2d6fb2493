"""A run small enough for tests: a morphable ellipsoid, a few frames, networks of a few units."""

import dataclasses

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

from sheap_jax import config
from sheap_jax.data.records import Record, write_split
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.storage import save_model

SIZE = 32


def ellipsoid() -> MorphableModel:
    """42 vertices, 80 faces, three identity modes (the axes), two expressions, root and jaw."""
    sphere = trimesh.creation.icosphere(subdivisions=1)
    unit = np.asarray(sphere.vertices)
    template = unit * np.array([0.07, 0.1, 0.08])
    axes = np.stack([0.1 * template * np.eye(3)[k] for k in range(3)])
    below = (unit[:, 1] < -0.3).astype(float)
    expressions = np.stack([0.01 * below[:, None] * np.eye(3)[k] for k in (0, 2)])
    faces = np.asarray(sphere.faces)
    front = faces[np.argsort(-unit[faces].mean(axis=1)[:, 2])[:34]]
    landmark_faces = np.array([np.flatnonzero((faces == f).all(axis=1))[0] for f in front])
    uv = np.stack([np.arctan2(unit[:, 0], unit[:, 2]) / (2 * np.pi) + 0.5, unit[:, 1] * 0.45 + 0.5], axis=1)
    weights = np.stack([1 - below, below], axis=1)
    arrays = {
        "template": template,
        "identity_basis": axes,
        "expression_basis": expressions,
        "pose_basis": np.zeros((0, 42, 3)),
        "joint_regressor": np.stack([np.full(42, 1 / 42), below / below.sum()]),
        "skinning_weights": weights,
        "uv": uv,
        "landmark_barycentrics": np.tile([[0.6, 0.2, 0.2], [0.2, 0.2, 0.6]], (34, 1)),
        "contour_barycentrics": np.zeros((0, 17, 3)),
    }
    indices = {
        "faces": faces,
        "uv_faces": faces,
        "landmark_faces": np.repeat(landmark_faces, 2),
        "contour_faces": np.zeros((0, 17)),
    }
    return MorphableModel(
        **{name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()},
        **{name: jnp.asarray(value, jnp.int32) for name, value in indices.items()},
        regions={"face": jnp.ones(42)},
        parents=(-1, 0),
        joint_names=("root", "jaw"),
        expression_names=("a", "b"),
        name="ellipsoid",
    )


def frames(count: int = 12) -> list[Record]:
    """Three people, four frames each: a shaded disc that moves, with landmarks that move with it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    records = []
    for i in range(count):
        center = SIZE / 2 + rng.normal(0, 2, 2)
        disc = ((x - center[0]) ** 2 + (y - center[1]) ** 2 < 100)[..., None]
        image = np.where(disc, [200, 150, 120 + 5 * i], [30, 60, 90]).astype(np.uint8)
        data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
        landmarks = (center + rng.normal(0, 5, (68, 2))).astype(np.float32)
        records.append(Record(f"person{i // 4}", "clip", i % 4, data, landmarks, np.ones(68, np.float32)))
    return records


@pytest.fixture(scope="session", autouse=True)
def use_cache(compilation_cache):
    """Every run of a test file compiles the same programs: once is enough, subprocesses included."""


@pytest.fixture
def tiny_config(tmp_path) -> config.Config:
    """A configuration whose shards and morphable model lie in `tmp_path`."""
    return make_config(tmp_path)


@pytest.fixture(scope="module")
def module_config(tmp_path_factory) -> config.Config:
    """The same for all tests of a file, so that they can share what is compiled."""
    return make_config(tmp_path_factory.mktemp("tiny"))


def make_config(tmp_path) -> config.Config:
    save_model(ellipsoid(), tmp_path / "ellipsoid.npz")
    for split in ("train", "test"):
        write_split(tmp_path / "shards", split, frames(), settings={})
    return config.Config(
        name="tiny",
        steps=8,
        geometry_steps=2,
        batch_size=2,
        image_size=SIZE,
        morphable=str(tmp_path / "ellipsoid.npz"),
        data=config.Data(directory=str(tmp_path / "shards"), embedded=None),
        estimator=config.Estimator(
            patch=16, width=16, depth=1, heads=2, feature_dim=16, head_width=16, light_components=3
        ),
        regressor=config.Regressor(uv_size=8, uv_channels=4, embedding_dim=4, graph_width=8, graph_depth=1),
        prototypes=config.Prototypes(per_face=1, capacity_per_face=1.5, densify_every=3),
        losses=dataclasses.replace(config.LossWeights(), landmarks=5.0),
        optimizer=config.Optimizer(learning_rate=1e-3, warmup_steps=2),
        log=config.Log(directory=str(tmp_path / "run"), metrics_every=1, pictures_every=0, checkpoint_every=3),
    )
