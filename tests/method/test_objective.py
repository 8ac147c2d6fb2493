"""What counts in the objective: the masks of its terms."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sheap_jax import geometry
from sheap_jax.method import rendering
from sheap_jax.method.objective import photometric_mask
from sheap_jax.morphable.embedded.head import embedded_head
from sheap_jax.morphable.model import forward, mean_params


@pytest.fixture(scope="module")
def model():
    return embedded_head(detail="coarse")


@pytest.fixture(scope="module")
def mesh(model):
    camera = geometry.official_camera(48)
    return rendering.render_mesh(forward(model, mean_params(model, 1)), model.faces, camera, width=48, height=48)


def test_face_head_and_the_rest_count_as_they_should(model, mesh):
    mask = np.asarray(photometric_mask(mesh, model, off_face=0.25, background=0.5))[0]
    corners = np.asarray(model.faces)[np.asarray(mesh.face_index[0])]
    share = np.asarray(model.regions["face"])[corners].mean(-1)
    hit = np.asarray(mesh.mask[0])
    np.testing.assert_array_equal(mask[~hit], 0.5)
    np.testing.assert_array_equal(mask[hit & (share > 0.5)], 1.0)
    np.testing.assert_array_equal(mask[hit & (share <= 0.5)], 0.25)
    assert len(np.unique(mask)) == 3
    rows = np.flatnonzero((mask == 1.0).any(axis=1))
    assert rows[0] > np.flatnonzero(hit.any(axis=1))[0] + 2, "the top of the skull is not face"


def test_without_a_face_region_or_with_equal_weights_the_whole_head_counts(model, mesh):
    whole = np.where(np.asarray(mesh.mask), 1.0, 0.5)
    np.testing.assert_array_equal(photometric_mask(mesh, model, off_face=1.0, background=0.5), whole)
    bare = dataclasses.replace(model, regions={})
    np.testing.assert_array_equal(photometric_mask(mesh, bare, off_face=0.25, background=0.5), whole)
    assert jnp.all(jnp.isfinite(photometric_mask(mesh, model, off_face=0.0, background=0.0)))
