"""Operations and transfers of programs whose costs are known."""

import jax
import jax.numpy as jnp
import pytest

from sheap_jax.ahead_of_time.program_cost import Collective, Traffic, collectives, loops, matrix_flops, traffic

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


PROGRAM = """
%fused_computation (p: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  ROOT %twice = f32[8,4]{1,0} add(%p, %p)
}

%body (state: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %state = (s32[], f32[8,4]{1,0}) parameter(0)
  %value = f32[8,4]{1,0} get-tuple-element(%state), index=1
  ROOT %half = bf16[8,4]{1,0} convert(%value), metadata={op_name="jit(step)/jvp(surfels)/convert"}
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %near = f32[8,4]{1,0:S(1)} fusion(%a), calls=%fused_computation, metadata={op_name="jit(step)/graph/add"}
  %copy-start = (f32[8,4]{1,0}, f32[8,4]{1,0:S(1)}, u32[]{:S(2)}) copy-start(%near)
  %copy-done = f32[8,4]{1,0} copy-done(%copy-start)
  %kernel = f32[8,4]{1,0} custom-call(%a), custom_call_target="tpu_custom_call"
  %loop = (s32[], f32[8,4]) while(%t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %sum = f32[8,4]{1,0} add(%a, %copy-done), metadata={op_name="jit(step)/transpose(jvp(graph))/add"}
}
"""


def test_traffic_is_what_instructions_read_and_write():
    """By hand: arrays of 128 bytes. The fusion reads one and writes to the chip, the copy from there writes one, the
    sum reads two and writes one; five times the body reads one and writes half of one; the kernel is not counted."""
    found = dict(traffic(PROGRAM, parts=("graph", "surfels")))
    assert found == {"graph": 128 + 3 * 128, "surfels": 5 * (128 + 64), "other": 128}
    assert traffic(PROGRAM)[0] == Traffic("other", 512 + 960 + 128)


def test_traffic_counts_whole_tiles():
    """[5, 7, 3] with 3 fastest in tiles of 8 x 128: 5 x 8 x 128 numbers; with 7 fastest after 5: 3 x 8 x 128."""
    program = """
ENTRY %main (a: f32[5,7,3]) -> bf16[5,7,3] {
  %a = f32[5,7,3]{2,1,0:T(8,128)} parameter(0)
  ROOT %copy = bf16[5,7,3]{1,0,2:T(8,128)(2,1)} convert(%a)
}
"""
    assert traffic(program) == [Traffic("other", 4 * 5 * 8 * 128 + 2 * 3 * 8 * 128)]


def test_traffic_leaves_out_the_workspace_of_gpu_libraries_and_kernels_of_pallas():
    program = """
ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %product = (f32[8,4]{1,0}, s8[33554432]{0}) custom-call(%a, %a), custom_call_target="__cublas$lt$matmul"
  %one = f32[8,4]{1,0} get-tuple-element(%product), index=0
  ROOT %kernel = f32[8,4]{1,0} custom-call(%one), custom_call_target="mosaic_gpu_v2"
}
"""
    assert traffic(program) == [Traffic("other", 3 * 128)]
