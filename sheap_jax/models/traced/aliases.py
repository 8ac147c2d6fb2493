"""Operations that overwrite their input: whether that can be told from making a new value."""

from collections.abc import Sequence

from sheap_jax.models.traced.program import Argument, ProgramStep, StepResult, read_results

# Operations whose results may share memory with their first argument.
_MEMORY_SHARED = (
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand",
    "expand_as", "slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "contiguous", "to",
    "type_as", "detach", "alias", "movedim", "swapaxes", "dropout", "feature_dropout", "view_as", "reshape_as",
    "numpy_T",
)  # fmt: skip
_VIEWS = {f"aten::{name}" for name in _MEMORY_SHARED} | {"prim::ListUnpack", "prim::TupleUnpack", "aten::__getitem__"}


def overwritten(steps: Sequence[ProgramStep], outputs: Sequence[Argument]) -> str | None:
    """The first operation that changes memory which is also read later under another name; None without one.

    Such an operation is no function of its arguments: its effect on the other names would be lost.
    """
    owner: dict[int, int] = {}  # of the memory of each value
    last: dict[int, int] = {}  # step that reads a value last
    for place, step in enumerate(steps):
        last |= dict.fromkeys(read_results(list(step.arguments.values())), place)
    last |= dict.fromkeys(read_results(list(outputs)), len(steps))
    for place, step in enumerate(steps):
        changes = step.operation.endswith("_") and not step.operation.endswith("__")
        first = next(iter(step.arguments.values()), None)
        shared = isinstance(first, StepResult) and (changes or step.operation in _VIEWS)
        memory = owner.get(first.number, first.number) if isinstance(first, StepResult) and shared else None
        if changes:
            names = [number for number, whose in owner.items() if whose == memory]
            if memory is None or any(last.get(number, -1) > place for number in [memory, *names]):
                return step.operation
        owner |= {number: number if memory is None else memory for number in step.results}
    return None
