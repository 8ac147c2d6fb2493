"""A TorchScript trace as a `Program`. Reading needs torch; running the program does not."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sheap_jax.models.traced.aliases import overwritten
from sheap_jax.models.traced.program import (
    INPUT,
    Argument,
    Program,
    ProgramStep,
    ProgramWeights,
    StepResult,
    Weight,
    read_weights,
    without_the_rest,
)
from sheap_jax.models.traced.runner import OPERATIONS

# Arguments that do not change the result: device, memory layout, gradients.
_MEANINGLESS = {
    "device", "layout", "pin_memory", "non_blocking", "memory_format", "requires_grad", "copy", "cudnn_enable",
    "cudnn_enabled", "benchmark", "deterministic", "allow_tf32", "momentum", "generator", "implicit", "sparse",
    "sparse_grad", "scale_grad_by_freq", "padding_idx", "path",
}  # fmt: skip
# Numbers by which graphs name kinds of number; those that JAX has not by default as the nearest that it has.
_NUMBER_KINDS = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int32", 5: "float16", 6: "float32", 7: "float32"}
_NUMBER_KINDS |= {11: "bool", 15: "float32"}
_NARROW = {"float64": "float32", "int64": "int32", "bfloat16": "float32"}
_UNPACKING = ("prim::ListUnpack", "prim::TupleUnpack")


class TraceError(ValueError):
    """A trace that cannot be translated; the message says why."""


class Trace(NamedTuple):
    """A trace in both languages."""

    program: Program
    weights: ProgramWeights
    all_outputs: tuple[str, ...]  # names, also of those that were left out
    graph: Any  # torch's graph without calls, for CPU; its first input is `module`
    module: Any


def read_trace(path: str | Path, *, outputs: Collection[str] | None = None) -> Trace:
    """Read a file of `torch.jit.save` that computes from one batch of images.

    Args:
      outputs: names of those that are wanted, as far as they are there; what only others need is left out. None: all.

    Raises:
      FileNotFoundError: there is no such file.
      TraceError: torch is not installed or cannot read the file; the trace has operations that are not known here
        (all of them are named), or changes values that are still needed.
    """
    try:
        import torch
    except ImportError as error:
        raise TraceError(
            f"{path} is a TorchScript trace, which only torch can read, once: pip install torch==2.13.0 "
            "(afterwards it is not needed)"
        ) from error
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        module = torch.jit.load(str(path), map_location="cpu")
        graph = module.inlined_graph
    except RuntimeError as error:
        raise TraceError(f"{path} is no TorchScript archive that torch can read ({_first_line(error)})") from error
    torch._C._jit_pass_dce(graph)  # type: ignore[reportAttributeAccessIssue]
    for node in graph.nodes():
        if node.kind() == "prim::Constant" and str(node.output().type()) == "Device":
            node.s_("value", "cpu")  # a trace of a GPU asks for it by name
    try:
        program, weights = _translate(torch, graph, module)
        kept = [name for name in program.outputs if outputs is None or name in outputs]
        reduced = without_the_rest(program, kept)
        _refuse_unknown(reduced)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from error
    used = read_weights(reduced)
    weights = {name: array for name, array in weights.items() if name in used}
    return Trace(reduced, weights, tuple(program.outputs), graph, module)


def run_torch(trace: Trace, images: np.ndarray) -> dict[str, np.ndarray]:
    """What torch computes of `images` [n, 3, h, w]: the outputs that the program has."""
    import torch

    run = torch._C._create_function_from_graph("forward", trace.graph)  # type: ignore[reportAttributeAccessIssue]
    with torch.no_grad():
        found = _leaves(run(trace.module._c, torch.from_numpy(images)))
    return {name: found[name].float().numpy() for name in trace.program.outputs}


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """Tensors in nested dicts, tuples and lists by their dotted names."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, tuple | list) and not isinstance(value, StepResult | Weight):
        items = enumerate(value)
    else:
        return {prefix.removesuffix(".") or "output": value}
    return {name: leaf for key, item in items for name, leaf in _leaves(item, f"{prefix}{key}.").items()}


def _refuse_unknown(program: Program) -> None:
    unknown = sorted({step.operation for step in program.steps} - set(OPERATIONS))
    if unknown:
        raise TraceError(
            f"the trace has operations that are not known here: {', '.join(unknown)}; report them, or add them to "
            "sheap_jax/models/traced"
        )


def _translate(torch: Any, graph: Any, module: Any) -> tuple[Program, ProgramWeights]:
    inputs = list(graph.inputs())
    if len(inputs) != 2:
        raise TraceError(f"the trace takes {len(inputs) - 1} inputs, expected one: a batch of images")
    translation = _Translation(torch)
    translation.modules[inputs[0].debugName()] = ("", module)
    translation.values[inputs[1].debugName()] = StepResult(INPUT)
    for node in graph.nodes():
        translation.add(node)
    output, *more = graph.outputs()
    assert not more
    named = _leaves(translation.values[output.debugName()])
    steps = tuple(translation.steps)
    fault = overwritten(steps, list(named.values()))
    if fault is not None:
        raise TraceError(f"{fault} overwrites a part of what is still needed: that cannot be translated")
    plain = tuple(step._replace(operation=_plain_name(step.operation)) for step in steps)
    return Program(plain, named), translation.weights


class _Translation:
    """What is known of the values of a graph, by torch's names for them."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.modules: dict[str, tuple[str, Any]] = {}  # path and object
        self.values: dict[str, Any] = {}
        self.steps: list[ProgramStep] = []
        self.weights: ProgramWeights = {}

    def add(self, node: Any) -> None:
        inputs = [value.debugName() for value in node.inputs()]
        outputs = [value.debugName() for value in node.outputs()]
        if node.kind() == "prim::Constant":
            self.values[outputs[0]] = self._constant(node.output().toIValue(), outputs[0])
        elif node.kind() == "prim::GetAttr":
            self._attribute(inputs[0], node.s("name"), outputs[0])
        elif node.kind() == "prim::DictConstruct":
            arguments = [self.values[name] for name in inputs]
            self.values[outputs[0]] = dict(zip(arguments[::2], arguments[1::2], strict=True))
        elif node.kind() in ("prim::ListConstruct", "prim::TupleConstruct"):
            self.values[outputs[0]] = [self.values[name] for name in inputs]
        elif node.kind() in _UNPACKING and isinstance(self.values[inputs[0]], list):
            self.values |= dict(zip(outputs, self.values[inputs[0]], strict=True))
        else:
            first = len(self.values) + 1
            results = tuple(range(first, first + len(outputs)))
            self.values |= {name: StepResult(number) for name, number in zip(outputs, results, strict=True)}
            self.steps.append(ProgramStep(node.kind(), self._arguments(node, inputs), results))

    def _arguments(self, node: Any, inputs: list[str]) -> dict[str, Argument]:
        if node.kind().startswith("prim::"):
            return {str(number): self._value(name) for number, name in enumerate(inputs)}
        parse = self.torch._C.parse_schema
        names = [argument.name for argument in parse(node.schema()).arguments]
        known = {name: self._value(value) for name, value in zip(names, inputs, strict=True)}
        if isinstance(known.get("dtype"), int):
            known["dtype"] = _NUMBER_KINDS.get(known["dtype"], f"kind {known['dtype']}")
        return {name: value for name, value in known.items() if name not in _MEANINGLESS}

    def _value(self, name: str) -> Argument:
        value = self.values.get(name, self)
        if value is self or isinstance(value, dict):
            raise TraceError(f"the trace computes with the value {name}, which is no tensor, number or list")
        return value

    def _attribute(self, owner: str, name: str, output: str) -> None:
        path, module = self.modules[owner]
        value, path = getattr(module, name), f"{path}.{name}".removeprefix(".")
        if isinstance(value, self.torch.Tensor | int | float | bool | str | list | tuple | None):
            self.values[output] = self._constant(value, path)
        else:
            self.modules[output] = (path, value)

    def _constant(self, value: Any, name: str) -> Argument:
        """Numbers stay Python numbers: like torch's, they do not change the dtype of a tensor that they meet."""
        if isinstance(value, self.torch.Tensor):
            array = value.detach().cpu()
            if not array.dim():
                return array.item()
            self.weights[name] = array.to(getattr(self.torch, _narrow(array))).contiguous().numpy()
            return Weight(name)
        if isinstance(value, list | tuple):
            return [self._constant(item, f"{name}.{number}") for number, item in enumerate(value)]
        if isinstance(value, self.torch.device):
            return str(value)
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TraceError(f"the constant {name} is a {type(value).__name__}, which is not known here")


def _narrow(tensor: Any) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return _NARROW.get(name, name)


def _plain_name(operation: str) -> str:
    """The name of an operation without the mark of those that overwrite their input."""
    marked = operation.endswith("_") and not operation.endswith("__")
    return operation.removesuffix("_") if marked else operation


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120]
