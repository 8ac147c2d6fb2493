"""The official SHeaP release into a directory that `sheap predict` and `sheap eval` take, by reading its computation.

What the file computes is what is run; nothing is assumed of how the network is built. Of its outputs those that
describe the head are kept. Before anything is written, torch and JAX compute the same pictures.
"""

from pathlib import Path
from typing import NamedTuple

from sheap_jax.files.file_kinds import foreign_kind
from sheap_jax.files.places import check_writable
from sheap_jax.models import official
from sheap_jax.models.traced import check
from sheap_jax.models.traced.reader import TraceError, read_trace
from sheap_jax.morphable.storage import load_model


class ConvertedRelease(NamedTuple):
    """What was written, and how it was checked."""

    differences: list[check.Difference]
    unused: list[str]  # outputs that say nothing about the head, or that the model has no place for


def convert_official(source: Path, directory: Path, *, morphable: Path) -> ConvertedRelease:
    """Write `directory` from model_paper.pt or model_expressive.pt and a converted FLAME.

    Raises:
      OSError: a file is not there, or the directory cannot be written to.
      ValueError: the directory holds something else, the model is no FLAME of the release's size, or the file is no
        trace with the release's outputs that JAX computes as torch does. Nothing is written then.
    """
    _check_directory(directory)
    check_writable(directory)
    model = load_model(morphable)
    official.check_model(model, path=morphable)
    kind = foreign_kind(source)
    if kind is not None:
        raise ValueError(f"{source} is {kind}")
    trace = read_trace(source, outputs=official.OUTPUTS)
    missing = [name for name in official.OUTPUTS if name not in trace.program.outputs]
    if missing:
        raise ValueError(
            f"{source} is not the official release: it has no output {', '.join(missing)} (it has "
            f"{', '.join(trace.all_outputs)})"
        )
    try:
        differences = check.compare(trace, image_size=official.IMAGE_SIZE)
        check.refuse_differences(differences)
    except TraceError as error:
        raise ValueError(f"{source}: {error}") from error
    for one in differences:
        if one.shape != (official.OUTPUTS[one.name],):
            raise ValueError(
                f"{source} is not the official release: its output {one.name} has {one.shape} numbers for a picture, "
                f"expected {official.OUTPUTS[one.name]}"
            )
    release = official.Release(trace.program, trace.weights, source.name, str(morphable), "official")
    official.save_release(directory, release)
    unused = [name for name in trace.all_outputs if name not in official.OUTPUTS]
    if not official.has_eyelids(model):
        unused.append(f"{official.EYELIDS} (convert FLAME with --eyelids eyelids.pt)")
    return ConvertedRelease(differences, unused)


def report(converted: ConvertedRelease) -> str:
    """The check of each output, then what is not used."""
    return "\n".join([check.report(converted.differences), *(f"unused: output {name}" for name in converted.unused)])


def _check_directory(directory: Path) -> None:
    """ValueError if it is a file, or holds anything but an older release."""
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file: the release becomes a directory, choose another name")
    others = [path.name for path in directory.iterdir() if path.name != official.FILE] if directory.exists() else []
    if others and not official.is_release(directory):
        raise ValueError(f"{directory} holds other things ({', '.join(sorted(others)[:3])}): choose another name")
