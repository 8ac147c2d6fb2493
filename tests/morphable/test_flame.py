"""The model that FLAME's files give: vertices as by the published equations, landmarks, and the command."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sheap_jax.morphable import flame
from sheap_jax.morphable.flame_files import FACES, VERTICES
from sheap_jax.morphable.model import forward, landmarks, mean_params
from sheap_jax.morphable.storage import load_model
from tests.morphable import fake_flame
from tests.refusal import refusal

TRIALS = Path(__file__).parents[3] / "shared/trials"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One set of good files."""
    paths = {"model": tmp_path / "generic_model.pkl", "landmarks": tmp_path / "landmark_embedding.npy"}
    paths |= {"template": tmp_path / "head_template.obj"}
    fake_flame.write_model(paths["model"], fake_flame.flame_arrays())
    fake_flame.write_landmarks(paths["landmarks"])
    fake_flame.write_template(paths["template"])
    return paths


def published_vertices(arrays, lids, params) -> np.ndarray:
    """FLAME in float64, from the equations of the paper (Li et al. 2017, section 3), one vertex and joint at a time.

    T_P = T + B_S(beta) + B_P(theta) + B_E(psi), M = W(T_P, J(T + B_S + B_E), theta, weights); the eyelids are further
    expressions (SHeaP). Rotations by Rodrigues' formula, the world transform of a joint by walking up to the root.
    """
    shape, expression, eyelids, rotations, translation = params

    def rotation(vector):
        angle = np.linalg.norm(vector)
        x, y, z = vector / angle
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross

    turned = [rotation(vector) for vector in rotations]
    feature = np.concatenate([(matrix - np.eye(3)).ravel() for matrix in turned[1:]])
    count = len(arrays["v_template"])
    head = np.zeros((count, 3))
    for v in range(count):
        head[v] = arrays["v_template"][v] + arrays["shapedirs"][v] @ np.concatenate([shape, expression])
        head[v] += lids[v].astype(float) @ eyelids
    joints = [sum(arrays["J_regressor"][j, v] * head[v] for v in range(count)) for j in range(5)]
    parents = (None, 0, 1, 1, 1)  # root, neck, jaw and eyes on the neck

    def to_world(joint, point):
        """A point that moves with a joint: turned about it, then with its parent."""
        while joint is not None:
            point = turned[joint] @ (point - joints[joint]) + joints[joint]
            joint = parents[joint]
        return point

    corrected = [head[v] + arrays["posedirs"][v] @ feature for v in range(count)]
    posed = [sum(arrays["weights"][v, j] * to_world(j, corrected[v]) for j in range(5)) for v in range(count)]
    return np.array(posed) + translation


@pytest.mark.parametrize("seed", range(4))
def test_vertices_are_those_of_the_published_equations(files, tmp_path, seed):
    """Everything at once: identity, expression and eyelids, which move the joints too, correctives, five joints."""
    rng = np.random.default_rng(seed)
    lids = rng.normal(size=(6, 3, 2)).astype(np.float32) * 0.01
    model = flame.read_flame(**files, eyelids=[fake_flame.write_eyelids(tmp_path / "eyelids.pt", lids)], any_size=True)
    shape, expression, eyelids = rng.normal(size=300), rng.normal(size=100), rng.uniform(size=2)
    rotations, translation = rng.normal(size=(5, 3)) * 0.5, rng.normal(size=3) * 0.1
    params = mean_params(model)._replace(
        shape=jnp.asarray(shape, jnp.float32),
        expression=jnp.asarray([*expression, *eyelids], jnp.float32),
        rotations=jnp.asarray(rotations, jnp.float32),
        translation=jnp.asarray(translation, jnp.float32),
    )
    arrays = fake_flame.flame_arrays()
    expected = published_vertices(arrays, lids, (shape, expression, eyelids, rotations, translation))
    np.testing.assert_allclose(forward(model, params), expected, atol=1e-6)
    fixed = forward(model.replace(joints_follow_expression=False), params)
    assert np.abs(fixed - expected).max() > 1e-3  # the test sees where joints come from


def test_arrays_come_out_as_they_went_in(files):
    arrays = fake_flame.flame_arrays()
    model = flame.read_flame(**files, any_size=True)
    np.testing.assert_allclose(model.template, arrays["v_template"], rtol=1e-6)
    np.testing.assert_array_equal(model.faces, arrays["f"])
    assert model.identity_basis.shape == (300, 6, 3)
    assert model.expression_basis.shape == (100, 6, 3)
    for channel in (0, 299):
        np.testing.assert_allclose(model.identity_basis[channel], arrays["shapedirs"][..., channel], rtol=1e-6)
    np.testing.assert_allclose(model.expression_basis[7], arrays["shapedirs"][..., 307], rtol=1e-6)
    np.testing.assert_allclose(model.joint_regressor, arrays["J_regressor"], rtol=1e-6)
    np.testing.assert_allclose(model.skinning_weights, arrays["weights"], rtol=1e-6)
    assert model.parents == (-1, 0, 1, 1, 1)  # the root is stored as 2^32 - 1
    assert model.joint_names == ("root", "neck", "jaw", "left_eye", "right_eye")
    assert model.joints_follow_expression


def test_pose_correctives_follow_smpl(files):
    """With a rigid mesh, only posedirs [v, c, 9 j + 3 r + k] x (R_j - I)[r, k] moves vertices (SMPL, eq. 9)."""
    model = flame.read_flame(**files, any_size=True)
    model = model.replace(skinning_weights=jnp.eye(5)[jnp.zeros(6, int)])  # all on the root
    rotations = np.random.default_rng(3).normal(size=(5, 3)) * 0.3
    rotations[0] = 0
    params = mean_params(model)._replace(rotations=jnp.asarray(rotations, jnp.float32))
    deviation = Rotation.from_rotvec(rotations[1:]).as_matrix() - np.eye(3)
    expected = fake_flame.TEMPLATE + fake_flame.flame_arrays()["posedirs"] @ deviation.reshape(36)
    np.testing.assert_allclose(forward(model, params), expected, atol=1e-7)


@pytest.mark.parametrize(("degrees", "row"), [(0, 0), (17, 17), (60, 39), (-1, 40), (-23, 62), (-70, 78)])
def test_the_contour_slides_by_yaw(files, degrees, row):
    """Rows 0-39 for yaw >= 0, else 39 - yaw, at most 78; the other 51 landmarks keep their faces."""
    content = fake_flame.landmark_arrays()
    model = flame.read_flame(**files, any_size=True)
    angle = np.radians(degrees)
    params = mean_params(model)._replace(rotations=jnp.zeros((5, 3)).at[0, 1].set(angle))
    vertices = forward(model, params)
    found = landmarks(model, vertices, params.rotations)
    contour = content["dynamic_lmk_faces_idx"][row], content["dynamic_lmk_bary_coords"][row]
    fixed = content["full_lmk_faces_idx"][0, 17:68], content["full_lmk_bary_coords"][0, 17:68]
    expected = [
        np.einsum("lk,lkc->lc", weights, np.asarray(vertices)[fake_flame.FACES[faces]])
        for faces, weights in (contour, fixed)
    ]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-6)


def test_sheaps_landmarks_have_a_fixed_jaw_line(files, tmp_path):
    content = fake_flame.write_sheap_landmarks(tmp_path / "flame_landmark_idxs_barys.pt")
    model = flame.read_flame(**files | {"landmarks": tmp_path / "flame_landmark_idxs_barys.pt"}, any_size=True)
    params = mean_params(model)._replace(rotations=jnp.zeros((5, 3)).at[0, 1].set(0.4))
    vertices = forward(model, params)
    corners = np.asarray(vertices)[fake_flame.FACES[content["full_lmk_faces_idx"][0]]]
    expected = np.einsum("lk,lkc->lc", content["full_lmk_bary_coords"][0], corners)
    np.testing.assert_allclose(landmarks(model, vertices, params.rotations), expected, atol=1e-6)


def test_without_a_template_there_is_no_uv_layout(files, tmp_path, capsys):
    arguments = [f"--{key}={files[key]}" for key in ("model", "landmarks")]
    flame.main([*arguments, "--any-size", str(tmp_path / "flame.npz")])
    assert "no uv layout" in capsys.readouterr().out
    assert load_model(tmp_path / "flame.npz").uv.shape == (0, 2)


def test_command_writes_a_model(files, tmp_path, capsys):
    named = [f"--{key}={files[key]}" for key in ("model", "landmarks", "template")]
    flame.main([*named, "--any-size", str(tmp_path / "flame.npz")])
    model = load_model(tmp_path / "flame.npz")
    assert model.name == "flame"
    assert model.joints_follow_expression
    assert "6 vertices, 300 identity and 100 expression channels" in capsys.readouterr().out
    missing = [f"--model={tmp_path / 'no.pkl'}", *named[1:], f"--eyelids={tmp_path / 'no.pt'}", "out.npz"]
    with pytest.raises(FileNotFoundError) as caught:
        flame.main(missing)
    message = str(caught.value)  # a line for each file
    for words in ("no.pkl does not exist", "flame.is.tue.mpg.de", "no.pt does not exist", "CC BY-NC"):
        assert words in message


def test_a_head_of_another_size_is_refused(files, tmp_path, capsys):
    named = [f"--{key}={path}" for key, path in files.items()]
    message = refusal(flame, [*named, str(tmp_path / "out.npz")], capsys)
    assert f"generic_model.pkl has 6 vertices and 8 faces, FLAME has {VERTICES} and {FACES}" in message
    assert not (tmp_path / "out.npz").exists()


def test_files_are_not_overwritten_by_the_converted_model(files, capsys):
    named = [f"--{key}={path}" for key, path in files.items()]
    before = files["model"].read_bytes()
    assert "one of the files to read" in refusal(flame, [*named, "--any-size", str(files["model"])], capsys)
    assert files["model"].read_bytes() == before
    assert "is a folder: name the .npz to write" in refusal(
        flame, [*named, "--any-size", str(files["model"].parent)], capsys
    )
    inside = str(files["model"] / "flame.npz")
    assert "is a file, name the .npz in a folder" in refusal(flame, [*named, "--any-size", inside], capsys)


@pytest.mark.skipif(not TRIALS.exists(), reason=f"{TRIALS} is not there")
def test_files_made_by_others(files, tmp_path, capsys):
    """A chumpy-free protocol 5 pickle, an .npz, a template without uv, an embedding and a pointer in wrong places."""
    named = {key: str(path) for key, path in files.items()}

    def said(**other: str) -> str:
        arguments = [f"--{key}={path}" for key, path in (named | other).items()]
        return refusal(flame, [*arguments, str(tmp_path / "out.npz")], capsys)

    for name in ("flame_protocol5.pkl", "flame_model.npz"):
        assert f"{name} has 6 vertices and 8 faces, FLAME has 5023" in said(model=f"{TRIALS / name}")
        flame.read_flame(**files | {"model": TRIALS / name}, any_size=True)
    static = TRIALS / "flame_static_embedding.pkl"
    assert "flame_static_embedding.pkl is a landmark embedding of FLAME" in said(model=f"{static}")
    message = said(model=f"{TRIALS / 'lfs_pointer.pth'}")
    assert "lfs_pointer.pth is a Git LFS pointer" in message
    assert "expected FLAME's head model" in message
    with pytest.raises(ValueError, match=r"flame_static_embedding\.pkl holds the 51 .* as --contour"):
        flame.read_flame(**files | {"landmarks": static}, any_size=True)
    with pytest.raises(ValueError, match=r"template_v_vn\.obj is an OBJ mesh without texture coordinates"):
        flame.read_flame(**files | {"template": TRIALS / "template_v_vn.obj"}, any_size=True)
