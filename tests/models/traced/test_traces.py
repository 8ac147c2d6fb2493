"""Whole networks as torch traces them, against torch itself."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="traces are made and checked with torch")

from sheap_jax.models.traced import check  # noqa: E402
from sheap_jax.models.traced.program import load_program, save_program  # noqa: E402
from sheap_jax.models.traced.reader import TraceError, read_trace, run_torch  # noqa: E402
from tests.models.traced import standins  # noqa: E402

TOLERANCE = 1e-5
MORE = standins.OFFICIAL | {"uncertainty": 68, "blendshapes": 52}


@pytest.fixture(autouse=True)
def same_networks():
    torch.manual_seed(0)


def images(count: int, size: int = 224) -> np.ndarray:
    return np.random.default_rng(count).uniform(size=(count, 3, size, size)).astype(np.float32)


def assert_same(path, saved, *, size: int = 224, counts=(3,)):
    """The program, after a round trip through its file, and torch's own loading of the trace."""
    trace, network = read_trace(path), torch.jit.load(str(path))
    save_program(saved, trace.program, trace.weights, source="here")
    program, weights, facts = load_program(saved)
    assert program == trace.program
    assert facts == {"source": "here"}
    for count in counts:
        with torch.no_grad():
            expected = network(torch.from_numpy(images(count, size)))
        if not isinstance(expected, dict):
            expected = {str(number): value for number, value in enumerate(expected)}
        found = check.run_fixed(program, weights, images(count, size))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            scale = max(float(value.abs().max()), 1e-3)
            np.testing.assert_allclose(found[name] / scale, value.numpy() / scale, atol=TOLERANCE, err_msg=name)
    return trace


@pytest.mark.parametrize(
    ("style", "frozen"),
    [("module", True), ("weights", False), ("function", False), ("function", True), ("spelled out", False)],
)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_transformers(tmp_path, style, frozen):
    """Traced with two images, run with three; and, where every step is spelled out, with one."""
    path = standins.traced(standins.Network(style, sizes=MORE), tmp_path / "model.pt", frozen=frozen)
    trace = assert_same(path, tmp_path / "program.npz", counts=(1, 3) if style == "spelled out" else (3,))
    assert set(trace.program.outputs) == set(MORE)
    assert frozen or "blocks.0.attn.qkv.weight" in trace.weights or style in ("module", "weights")


@pytest.mark.parametrize(("form", "batch"), [("tuple", 1), ("namedtuple", 2)])
def test_outputs_without_names_are_counted(tmp_path, form, batch):
    path = standins.traced(standins.Network(form=form), tmp_path / "model.pt", batch=batch)
    trace = assert_same(path, tmp_path / "program.npz")
    assert set(trace.program.outputs) == {"0", "1"}


def test_fused_encoder_layer(tmp_path):
    """torch traces it as one operation."""

    class Fused(torch.nn.Module):
        def __init__(self, first: bool):
            super().__init__()
            options = {"batch_first": True, "norm_first": first, "activation": "gelu" if first else "relu"}
            self.layer = torch.nn.TransformerEncoderLayer(16, 4, 32, **options)

        def forward(self, x):
            return {"out": self.layer(x.reshape(x.shape[0], 3, 16)).mean(1)}

    for first in (False, True):
        path = standins.traced(Fused(first), tmp_path / "model.pt", size=4)
        trace = assert_same(path, tmp_path / "program.npz", size=4)
        assert [step.operation for step in trace.program.steps].count("aten::_transformer_encoder_layer_fwd") == 1


def test_a_trace_for_a_gpu_runs_without(tmp_path, monkeypatch):
    """The name of the device is a constant of the graph."""
    path = standins.traced(standins.Network(), tmp_path / "model.pt")
    load = torch.jit.load

    def load_from_gpu(*arguments, **options):
        module = load(*arguments, **options)
        graph = module.inlined_graph
        constants = [n for n in graph.nodes() if n.kind() == "prim::Constant" and str(n.output().type()) == "Device"]
        assert constants
        for node in constants:
            node.s_("value", "cuda:0")
        return _WithGraph(module, graph)

    monkeypatch.setattr(torch.jit, "load", load_from_gpu)
    trace = read_trace(path)
    found, expected = check.run_fixed(trace.program, trace.weights, images(2)), run_torch(trace, images(2))
    np.testing.assert_allclose(found["expr"], expected["expr"], atol=1e-5)


class _WithGraph:
    """A module with another graph than its own."""

    def __init__(self, module, graph):
        self._module, self.inlined_graph = module, graph

    def __getattr__(self, name):
        return getattr(self._module, name)


def small(function, path, *, size: int = 4):
    class Small(torch.nn.Module):
        def forward(self, x):
            return {"out": function(x)}

    return standins.traced(Small(), path, size=size)


def test_unknown_operations_are_all_named(tmp_path):
    path = small(lambda x: torch.linalg.qr(torch.fft.rfft(x).real)[0], tmp_path / "model.pt")
    with pytest.raises(TraceError, match=r"aten::fft_rfft, aten::linalg_qr, aten::real"):
        read_trace(path)


def part_of_what_is_used(x):
    y = x * 2
    y[:, 0] = 1.0
    return y


def old_value_used_again(x):
    y = x * 2
    z = y.view(-1)
    return torch.relu_(y).sum() + z


@pytest.mark.parametrize("function", [part_of_what_is_used, old_value_used_again])
def test_changes_in_place_that_others_see_are_refused(tmp_path, function):
    with pytest.raises(TraceError, match="overwrites"):
        read_trace(small(function, tmp_path / "model.pt"))


def test_changes_in_place_that_nobody_else_sees(tmp_path):
    def residual(x):
        y = torch.relu_(x * 2 - 1)
        y += x
        return y.mul_(0.5).clamp_(max=0.6).mean((2, 3))

    assert_same(small(residual, tmp_path / "model.pt"), tmp_path / "program.npz", size=4)


def test_a_batch_that_is_baked_in_is_refused(tmp_path):
    path = small(lambda x: x.mean((2, 3)) + torch.zeros(2, 3), tmp_path / "model.pt")
    with pytest.raises(TraceError, match=r"cannot run the trace on 3 pictures|expected one row"):
        check.compare(read_trace(path), image_size=4)


def test_training_mode_is_refused(tmp_path):
    class Random(torch.nn.Module):
        def forward(self, x):
            return {"out": torch.nn.functional.dropout(x, 0.5, True)}

    with pytest.raises(TraceError, match="traced in training mode"):
        check.compare(read_trace(standins.traced(Random(), tmp_path / "model.pt", size=4)), image_size=4)


def test_the_check_finds_a_wrong_weight(tmp_path):
    path = standins.traced(standins.Network(), tmp_path / "model.pt")
    trace = read_trace(path)
    right = check.compare(trace, image_size=224)
    check.refuse_differences(right)
    assert len(check.report(right).splitlines()) == len(standins.OFFICIAL)
    trace.weights["heads.expr.3.bias"] = trace.weights["heads.expr.3.bias"] + 1e-2
    with pytest.raises(TraceError, match="expr differs"):
        check.refuse_differences(check.compare(trace, image_size=224))


def test_what_is_no_trace(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        read_trace(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no archive")
    with pytest.raises(TraceError, match=r"text\.pt is no TorchScript archive"):
        read_trace(tmp_path / "text.pt")
    torch.save({"a": torch.zeros(3)}, tmp_path / "plain.pt")
    with pytest.raises(TraceError, match=r"plain\.pt is no TorchScript archive"):
        read_trace(tmp_path / "plain.pt")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz is damaged or no converted release"):
        load_program(tmp_path / "other.npz")
