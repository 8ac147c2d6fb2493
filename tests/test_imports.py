"""Imports run along the flow of data and never back; the core needs only jax, flax, optax and numpy."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms in the order of the flow: a module may import from its own room and from those before it.
FLOW = [
    ["types", "config", "files", "command_line"],
    ["geometry", "config_fields"],
    ["config_files"],
    ["config_ranges", "cropping"],
    ["morphable"],
    ["models"],
    ["method"],
    ["data"],
    ["config_checks"],
    ["assembly"],
    ["training", "evaluation"],  # which do not know each other
    ["inference"],
    ["ahead_of_time"],
    ["commands"],
]
STRANGERS = {("training", "evaluation"), ("evaluation", "training")}
TILERASTER = [
    ["constants", "types", "camera", "nan_inputs"],
    ["validation"],
    ["tiling"],
    ["splats"],
    ["pallas"],
    ["mesh", "backends"],
    ["capacity", "splatting"],
    ["api"],
]


def ranks(flow: list[list[str]]) -> dict[str, int]:
    """The place of each room in a flow."""
    return {name: rank for rank, row in enumerate(flow) for name in row}


def room(module: str, package: str) -> str | None:
    """The room of a dotted module name of a package, None for others."""
    parts = module.split(".")
    return parts[1] if parts[0] == package and len(parts) > 1 else None


def imports(path: Path) -> list[str]:
    """Modules that a file imports, at its top or inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


FILES = sorted((ROOT / "sheap_jax").rglob("*.py"))
KERNELS = sorted((ROOT / "kernels/tileraster").rglob("*.py"))


@pytest.mark.parametrize("path", [*FILES, *KERNELS], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_flow(path):
    package, folder, flow = ("sheap_jax", ROOT / "sheap_jax", FLOW)
    if path in KERNELS:
        package, folder, flow = ("tileraster", ROOT / "kernels/tileraster", TILERASTER)
    rank, own = ranks(flow), path.relative_to(folder).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in rank, f"{own} has no place in the flow: give it one"
    for module in imports(path):
        other = room(module, package)
        if other is not None and other in rank:
            assert rank[other] <= rank[own], f"{path.name} ({own}) imports {module}, which comes after it"
            assert (own, other) not in STRANGERS, f"{path.name} ({own}) imports {module}"


def test_modules_form_no_circle():
    """Not within a room either, and not by imports inside functions."""
    modules = {_dotted(path): path for path in [*FILES, *KERNELS]}

    def own(name: str) -> str:
        """The module that an imported name is, or is part of; "" for those of others."""
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    graph = {name: {own(found) for found in imports(path)} - {name, ""} for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names them


def _dotted(path: Path) -> str:
    """What a file is imported as."""
    parts = path.relative_to(ROOT / "kernels" if path in KERNELS else ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_flax_linen_stays_in_models(path):
    if path.relative_to(ROOT / "sheap_jax").parts[0] != "models":
        assert not any(name.startswith("flax.linen") for name in imports(path))


def test_the_rasteriser_knows_nothing_of_heads():
    for path in (ROOT / "kernels/tileraster").rglob("*.py"):
        assert not any(name.startswith("sheap_jax") for name in imports(path)), path


def test_the_core_imports_without_optional_packages():
    """A training step must import where Grain, TensorFlow Datasets, trimesh and the like are missing."""
    blocked = ["grain", "array_record", "trimesh", "tensorflow_datasets", "tensorboardX", "simplejpeg", "mediapipe"]
    blocked += ["orbax", "cv2", "tqdm"]
    code = f"""
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import sheap_jax, tileraster
import sheap_jax.training.start, sheap_jax.training.step, sheap_jax.training.densify
"""
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
