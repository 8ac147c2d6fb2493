import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax.geometry import quaternion_to_matrix
from sheap_jax.inference.avatar import load_model_of, pose_surfels
from sheap_jax.inference.viewer_scene import LightChange, change_light, splats_in_view
from sheap_jax.method import lighting
from sheap_jax.morphable import forward
from tests.inference.browser import Page, find_browser, wait_for
from tests.inference.tiny_avatar import tiny_avatar

STILL = LightChange(jnp.float32(1.0), jnp.float32(0.0), jnp.float32(0.0))


def test_splats_are_the_surfels_in_centimetres():
    rigged = tiny_avatar()
    model = load_model_of(rigged)
    surfels = pose_surfels(rigged, model, rigged.head).surfels
    splats = splats_in_view(rigged, model, rigged.head, STILL)
    np.testing.assert_allclose(splats.centers, 100 * surfels.means, rtol=1e-5, atol=1e-5)
    variance, axes = np.linalg.eigh(np.asarray(splats.covariances, np.float64))
    np.testing.assert_allclose(variance[:, 1:], np.sort((100 * surfels.scales[:, :2]) ** 2), rtol=1e-3)
    along = np.einsum("ni,ni->n", axes[:, :, 0], quaternion_to_matrix(surfels.quats)[:, :, 2])
    np.testing.assert_allclose(np.abs(along), 1.0, atol=1e-3, err_msg="the thin axis is the normal")


def test_light_comes_from_the_side_of_its_slider():
    light = jnp.zeros((9, 3)).at[0].set(jnp.array([1.0, 0.8, 0.6]))
    directions = jnp.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    left, right, top, bottom = lighting.shade(directions, change_light(light, STILL._replace(left=jnp.float32(1.0))))
    assert (left > 2 * right).all()
    np.testing.assert_allclose(top, bottom, rtol=1e-6)
    brighter = lighting.shade(directions, change_light(light, STILL._replace(brightness=jnp.float32(2.0))))
    np.testing.assert_allclose(brighter, 2 * lighting.shade(directions, light), rtol=1e-6)


def test_a_slider_in_the_browser_moves_the_mesh(tmp_path):
    pytest.importorskip("viser", reason="needs viser: pip install 'sheap-jax[viewer]'")
    program = find_browser()
    if program is None:
        pytest.skip("needs a browser to drive: no chromium, chromium-headless-shell or google-chrome on the path")
    from sheap_jax.inference.viewer import Viewer

    rigged = tiny_avatar()
    model = load_model_of(rigged)
    viewer = Viewer(model, rigged)
    assert viewer.server.get_host() == "127.0.0.1"
    threading.Thread(target=viewer.run, daemon=True).start()
    try:
        with Page(program, f"http://127.0.0.1:{viewer.server.get_port()}", tmp_path / "profile") as page:
            client = wait_for(lambda: next(iter(viewer.server.get_clients().values()), None), "the page to connect")
            check_slider(page, viewer, model, rigged)
            viewer.controls.mesh.value = True
            picture = client.get_render(height=120, width=120, transport_format="png")
            head = picture[..., 3] > 128
            assert 0.05 < head.mean() < 0.9, "a head on an empty background"
            assert picture[head][:, :3].std() > 5, "with light and shade"
            assert page.picture().std() > 5
    finally:
        viewer.server.stop()


def check_slider(page: Page, viewer, model, rigged) -> None:
    """The first slider of the expressions, found by its label, one step up by the keyboard."""
    slider = """[...document.querySelectorAll('[role=slider]')].find(one => {
        let row = one;
        while (row && !row.querySelector('label')) row = row.parentElement;
        return row?.querySelector('label').innerText.trim() == 'a';
    })"""
    wait_for(lambda: page.evaluate(f"!!({slider})"), "the slider of expression a")
    start = np.array(viewer.mesh.vertices)
    page.evaluate(f"({slider}).focus()")
    page.press("ArrowRight", times=20)
    wait_for(lambda: np.abs(viewer.mesh.vertices - start).max() > 0, "the mesh to move")
    wait_for(lambda: abs(viewer.controls.params().expression[0] - 0.7) < 1e-6, "all twenty steps of 0.01")
    viewer.draw()
    head = jax.tree.map(jnp.zeros_like, rigged.head)
    head = head._replace(shape=rigged.head.shape, expression=rigged.head.expression.at[0].set(0.7))
    np.testing.assert_allclose(viewer.mesh.vertices, 100 * jax.jit(forward)(model, head), atol=1e-3)
