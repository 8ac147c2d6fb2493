"""Which configurations can be trained with: the values of single fields, and what must hold between them.

What depends on the morphable model is checked where the networks are sized (models/build.py), what the renderer must
know in assembly.py, what depends on devices in training/sharding.py.
"""

from collections.abc import Iterator

from tileraster.validation import GPU_BACKENDS, IMPLEMENTATIONS, INTERPRETED

from sheap_jax.config import Config
from sheap_jax.config_ranges import refuse, value_faults
from sheap_jax.data.embedded.settings import embedded_faults, head_faults
from sheap_jax.files.urls import LOCAL_ONLY, scheme_of
from sheap_jax.models.build import ESTIMATOR_STYLES
from sheap_jax.models.patches import stem_stages
from sheap_jax.models.regressor import KINDS
from sheap_jax.models.uv_generator import HEADS, START, map_widths


def check_config(config: Config) -> None:
    """Raises ConfigError that names every field whose value cannot be, the value, and what is allowed."""
    faults = [*value_faults(config, "config"), *_choice_faults(config)]
    if config.data.embedded is not None:
        faults += embedded_faults(config.data.embedded, "config.data.embedded")
    refuse([*faults, *_place_faults(config)] or _relation_faults(config))


def _place_faults(config: Config) -> Iterator[str]:
    """Fields that name local files, and are URLs. The run directory and the start's weights may lie in a bucket."""
    weights, embedded = config.weights, config.data.embedded
    places = {
        "data.directory": config.data.directory,
        "data.embedded.people": "" if embedded is None else embedded.people,
        "morphable": config.morphable,
        "light": config.light,
        "weights.estimator": weights.estimator,
        "weights.dinov2": weights.dinov2,
        "weights.lpips": weights.lpips,
    }
    for name, place in places.items():
        if isinstance(place, str) and scheme_of(place) is not None:
            yield f"config.{name} is {place}: {LOCAL_ONLY}"


def _choice_faults(config: Config) -> Iterator[str]:
    """Fields that name one of a few things."""
    choices = {
        "config.rasterizer": (config.rasterizer, (None, *IMPLEMENTATIONS, *GPU_BACKENDS, *INTERPRETED)),
        "config.estimator.style": (config.estimator.style, ESTIMATOR_STYLES),
        "config.regressor.kind": (config.regressor.kind, KINDS),
    }
    for path, (value, allowed) in choices.items():
        if value not in allowed:
            yield f"{path} is {value!r}, it must be one of {', '.join(map(str, allowed))}"
    yield from head_faults(config.morphable, "config.morphable")


def _relation_faults(config: Config) -> Iterator[str]:
    """What does not hold between fields whose values are possible by themselves."""
    yield from _run_faults(config)
    yield from _data_faults(config)
    yield from _estimator_faults(config)
    yield from _regressor_faults(config)
    yield from _step_faults(config)


def _run_faults(config: Config) -> Iterator[str]:
    if not config.name or config.name != config.name.strip():
        yield f"config.name is {config.name!r}, it must name the run's directory"
    try:
        directory = config.run_directory
    except (KeyError, IndexError, ValueError):
        directory = ""
    if not directory:
        yield f"config.log.directory is {config.log.directory!r}, it may have {{name}} in it and no other braces"


def _data_faults(config: Config) -> Iterator[str]:
    data = config.data
    people = "none" if data.embedded is None else data.embedded.people
    generated = people.startswith("embedded:") and config.morphable.startswith("embedded:")
    if config.losses.true_shape and not generated and people != config.morphable:
        yield (
            f"config.losses.true_shape is {config.losses.true_shape}, only people of the fitted model have a true "
            f"shape: config.morphable is {config.morphable!r}, config.data.embedded.people {people!r}"
        )
    if data.embedded is None:
        if "{settings}" in data.directory:
            yield f"config.data.directory is {data.directory!r}, {{settings}} is for generated clips: name your shards"
        return
    frames = data.embedded.frames_per_clip * (data.embedded.clips_per_identity if data.across_clips else 1)
    if frames < 2 and not data.allow_self_pairs:
        yield (
            f"config.data.embedded.frames_per_clip is {data.embedded.frames_per_clip}, a pair takes two frames: "
            "at least 2, or several clips_per_identity with data.across_clips, or data.allow_self_pairs"
        )
    if "test" not in data.embedded.truth_splits:
        yield "config.data.embedded.truth_splits lacks 'test': sheap train scores the test people when it has finished"


def _estimator_faults(config: Config) -> Iterator[str]:
    size = config.estimator
    if config.image_size % size.patch:
        below = config.image_size // size.patch * size.patch
        sizes = " or ".join(str(side) for side in (below, below + size.patch) if side)
        yield f"config.image_size is {config.image_size}, no multiple of config.estimator.patch {size.patch}: {sizes}"
    if size.width % size.heads or size.width < 4:
        yield (
            f"config.estimator.width is {size.width}, it must be a multiple of config.estimator.heads {size.heads} "
            "and at least 4"
        )
    if config.weights.start and config.weights.estimator:
        yield "config.weights.start and config.weights.estimator both say where the estimator starts: name one"
    if size.from_scratch and not stem_stages(size.patch):
        yield f"config.estimator.patch is {size.patch}, with from_scratch it must be 4, 8, 16 or another power of two"
    if not size.free_joints or len(set(size.free_joints)) < len(size.free_joints):
        yield f"config.estimator.free_joints is {size.free_joints}, it must name at least one joint, each once"


def _regressor_faults(config: Config) -> Iterator[str]:
    size = config.regressor
    try:
        widths = map_widths(size.uv_size, size.uv_channels, size.uv_widest)
    except ValueError:
        yield f"config.regressor.uv_size is {size.uv_size}, it must be {START} times a power of two: 8, 16, 32, 64, ..."
        return
    odd = [width for side, width in widths.items() if side <= size.attention_size and width % HEADS]
    if odd:
        yield (
            f"config.regressor.uv_channels {size.uv_channels} and uv_widest {size.uv_widest} give maps of {odd[0]} "
            f"channels that attend to the context: they must be multiples of {HEADS}"
        )


def _step_faults(config: Config) -> Iterator[str]:
    prototypes, optimizer = config.prototypes, config.optimizer
    if prototypes.capacity_per_face < prototypes.per_face:
        yield (
            f"config.prototypes.capacity_per_face is {prototypes.capacity_per_face}, it must be at least "
            f"config.prototypes.per_face {prototypes.per_face}"
        )
    if config.batch_size % optimizer.accumulate:
        yield (
            f"config.batch_size is {config.batch_size}, it must be a multiple of config.optimizer.accumulate "
            f"{optimizer.accumulate}"
        )
    if config.devices.fsdp > 1 and optimizer.flat_moments:
        yield "config.devices.fsdp shares out optimiser state: it needs config.optimizer.flat_moments=False"
