"""Operations and transfers of programs whose costs are known."""

import jax
import jax.numpy as jnp
import pytest

from sheap_jax.training.program_cost import Collective, collectives, loops, matrix_flops

# Lines as the TPU compiler prints them.
HLO = """
  %ar = (f32[10]{0}, bf16[4,2]{1,0}) all-reduce(%a, %b), replica_groups={{0,1}}, to_apply=%add
  %start = f32[100]{0:T(128)} all-reduce-start(%c), channel_id=1, to_apply=%add
  %done = f32[100]{0:T(128)} all-reduce-done(%start)
  %ag = (f32[8]{0}, f32[32]{0}) all-gather-start(%d), dimensions={0}
  %one = (s32[], f32[2]) while(%t), condition=%c, body=%b, backend_config={"known_trip_count":{"n":"12"}}
  %two = (s32[], f32[2]) while(%t), condition=%c, body=%b
"""


def flops(function, *shapes) -> float:
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return matrix_flops(jax.jit(function).trace(*arguments).jaxpr)


def test_a_product_takes_two_operations_per_term():
    assert flops(jnp.dot, (3, 4), (4, 5)) == 2 * 3 * 4 * 5
    assert flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (7, 3, 4), (7, 4, 5)) == 7 * 2 * 3 * 4 * 5


def test_a_gradient_takes_two_products_more():
    gradient = jax.grad(lambda a, b: jnp.sum(jnp.dot(a, b) ** 2), argnums=(0, 1))
    assert flops(gradient, (3, 4), (4, 5)) == 3 * 2 * 3 * 4 * 5


def test_a_loop_counts_every_time_and_a_branch_its_dearest():
    def loop(a):
        return jax.lax.scan(lambda x, _: (x @ x, None), a, None, length=6)[0]

    def branch(a):
        return jax.lax.cond(a[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, a)

    assert flops(loop, (4, 4)) == 6 * 2 * 64
    assert flops(branch, (4, 4)) == 2 * 2 * 64


def test_recomputed_products_count():
    remat = jax.checkpoint(lambda a: jnp.sum(jnp.sin(jnp.sin(a @ a) @ a)))
    plain = flops(jax.grad(lambda a: jnp.sum(jnp.sin(jnp.sin(a @ a) @ a))), (4, 4))
    assert flops(jax.grad(remat), (4, 4)) > plain


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_and_its_gradients(stride):
    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    forward = 2 * (8 // stride) ** 2 * 3 * 3 * 5 * 6
    assert flops(convolve, (1, 8, 8, 5), (3, 3, 5, 6)) == forward
    gradient = jax.grad(lambda i, k: jnp.sum(convolve(i, k) ** 2), argnums=(0, 1))
    assert flops(gradient, (1, 8, 8, 5), (3, 3, 5, 6)) == 3 * forward


def test_transfers_are_summed_by_kind():
    assert collectives(HLO) == [Collective("all-gather", 1, 128), Collective("all-reduce", 2, 40 + 16 + 400)]


def test_loops_with_and_without_a_known_length():
    assert loops(HLO) == [12, 0]
