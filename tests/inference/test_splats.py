import jax
import numpy as np
import pytest

from sheap_jax import geometry
from sheap_jax.inference.avatar import load_model_of, pose_surfels
from sheap_jax.inference.splats import write_splats
from sheap_jax.method import rendering
from sheap_jax.types import Surfels
from tests.inference.tiny_avatar import tiny_avatar


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Lit surfels in neutral pose, and the columns that plyfile finds in their file."""
    plyfile = pytest.importorskip("plyfile", reason="needs plyfile, an independent reader of .ply")
    directory = tmp_path_factory.mktemp("splats")
    rigged = tiny_avatar()
    posed = pose_surfels(rigged, load_model_of(rigged), rigged.neutral())
    write_splats(directory / "a.ply", posed.surfels, posed.colors)
    return posed, plyfile.PlyData.read(directory / "a.ply")["vertex"]


def columns(vertex, *names: str) -> np.ndarray:
    return np.stack([vertex[name] for name in names], axis=-1)


def read_surfels(vertex) -> tuple[Surfels, np.ndarray]:
    """Surfels and colours by the formulas of the 3D Gaussian Splatting code."""
    opacity = vertex["opacity"].astype(np.float64)
    surfels = Surfels(
        means=columns(vertex, "x", "y", "z"),
        quats=columns(vertex, "rot_0", "rot_1", "rot_2", "rot_3"),
        scales=np.exp(columns(vertex, "scale_0", "scale_1", "scale_2")),
        opacities=(1 / (1 + np.exp(-opacity))).astype(np.float32),
        albedo=np.zeros((len(opacity), 3), np.float32),
    )
    return surfels, 0.5 + np.float32(0.28209479177387814) * columns(vertex, "f_dc_0", "f_dc_1", "f_dc_2")


def test_the_file_has_the_standard_fields(written):
    _, vertex = written
    standard = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert [one.name for one in vertex.properties] == standard.split()
    assert all(one.val_dtype == "f4" for one in vertex.properties)


def test_another_reader_finds_the_surfels(written):
    posed, vertex = written
    surfels, colors = read_surfels(vertex)
    np.testing.assert_array_equal(surfels.means, posed.surfels.means)
    np.testing.assert_array_equal(surfels.quats, posed.surfels.quats)
    np.testing.assert_allclose(surfels.scales[:, :2], posed.surfels.scales[:, :2], rtol=1e-5)
    assert (surfels.scales[:, 2] < 0.05 * surfels.scales[:, :2].min(axis=1)).all(), "flat"
    np.testing.assert_allclose(surfels.opacities, posed.surfels.opacities, atol=2e-6)
    np.testing.assert_allclose(colors, posed.colors, atol=1e-6)
    np.testing.assert_allclose(columns(vertex, "nx", "ny", "nz"), posed.normals, atol=1e-6)


def test_what_is_read_back_looks_the_same(written):
    posed, vertex = written

    @jax.jit
    def render(surfels: Surfels, colors):
        one = jax.tree.map(lambda x: x[None], (surfels, colors))
        camera = geometry.official_camera(32)
        image = rendering.render_surfels(*one, camera, width=32, height=32, implementation="reference")
        return image.color

    direct = render(posed.surfels, posed.colors)
    np.testing.assert_allclose(render(*read_surfels(vertex)), direct, atol=1e-4)
    assert direct.std() > 0.1
