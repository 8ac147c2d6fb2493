"""A recorded computation as data: steps in order, and the arrays that they read."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from sheap_jax.files.array_files import read_npz
from sheap_jax.files.json_files import parse_json
from sheap_jax.files.whole_file import whole_file

FORMAT_VERSION = 1
_METADATA = "metadata"  # name of the JSON entry
_WEIGHT = "weight/"  # prefix of the arrays
INPUT = 0  # number of the program's only input, images [n, 3, h, w]

ProgramWeights = dict[str, Shaped[np.ndarray, "..."]]


class StepResult(NamedTuple):
    """The value that a step made, by its number."""

    number: int


class Weight(NamedTuple):
    """An array of the program, by its name."""

    name: str


# What a step reads: a StepResult, a Weight, or a constant (None, bool, number, text, or a list of such).
Argument = Any


class ProgramStep(NamedTuple):
    """One operation.

    Arguments have the names of TorchScript's schema; those of operations without a schema are counted "0", "1", ...
    """

    operation: str
    arguments: dict[str, Argument]
    results: tuple[int, ...]


class Program(NamedTuple):
    """A computation of named outputs from one batch of images; the size of the batch is free."""

    steps: tuple[ProgramStep, ...]
    outputs: dict[str, Argument]


def without_the_rest(program: Program, names: Iterable[str]) -> Program:
    """The program with only these of its outputs, and the steps that they need."""
    outputs = {name: program.outputs[name] for name in names}
    needed, kept = set(read_results(list(outputs.values()))), []
    for step in reversed(program.steps):
        if needed.intersection(step.results):
            kept.append(step)
            needed.update(read_results(list(step.arguments.values())))
    return Program(tuple(reversed(kept)), outputs)


def read_results(arguments: list[Argument]) -> list[int]:
    """Numbers of the results among arguments, also those in lists."""
    found = []
    for value in arguments:
        if isinstance(value, StepResult):
            found.append(value.number)
        elif isinstance(value, list):
            found += read_results(value)
    return found


def read_weights(program: Program) -> set[str]:
    """Names of the arrays that a program reads."""
    found, waiting = set(), [list(program.outputs.values()), *(list(step.arguments.values()) for step in program.steps)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Weight):
            found.add(value.name)
        elif isinstance(value, list):
            waiting += value
    return found


def save_program(path: str | Path, program: Program, weights: ProgramWeights, **facts: Any) -> None:
    """Write a program as .npz; an older file is replaced only once the new one is complete.

    Args:
      facts: anything else to store beside it, as JSON.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "facts": facts,
        "steps": [[s.operation, {k: _plain(v) for k, v in s.arguments.items()}, s.results] for s in program.steps],
        "outputs": {name: _plain(value) for name, value in program.outputs.items()},
    }
    arrays = {_METADATA: np.array(json.dumps(content))} | {_WEIGHT + name: array for name, array in weights.items()}
    with whole_file(path) as temporary, temporary.open("wb") as file:  # to a path, NumPy may append .npz
        np.savez(file, allow_pickle=False, **arrays)


def load_program(path: str | Path) -> tuple[Program, ProgramWeights, dict[str, Any]]:
    """The program, its weights and the facts that `save_program` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is another one or damaged; the message names it.
    """
    path = Path(path)
    kind, how = "converted release", "convert it again"
    arrays = read_npz(path, kind=kind, way_out=how)
    try:
        content = parse_json(str(arrays.pop(_METADATA)))
        weights = {name.removeprefix(_WEIGHT): array for name, array in arrays.items()}
        version = content["format_version"]
        steps = [
            ProgramStep(operation, {k: _argument(v) for k, v in arguments.items()}, tuple(results))
            for operation, arguments, results in content["steps"]
        ]
        outputs = {name: _argument(value) for name, value in content["outputs"].items()}
        facts = content["facts"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no {kind} ({error}): {how}") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, not {FORMAT_VERSION}: convert the release again")
    return Program(tuple(steps), outputs), weights, facts


def _plain(value: Argument) -> Any:
    if isinstance(value, StepResult | Weight):
        return value._asdict()
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _argument(value: Any) -> Argument:
    if isinstance(value, dict):
        return StepResult(**value) if "number" in value else Weight(**value)
    return [_argument(item) for item in value] if isinstance(value, list) else value
