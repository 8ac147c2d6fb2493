"""What a run is: plain dataclasses. One file per run under configs/ fills them in.

Every field has a unit or a meaning in its comment; fields marked "ours" have no known value in the paper. The type of a
number says which values it may have; config_checks.py checks them, and what must hold between fields.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple


class Range(NamedTuple):
    """Which numbers a field may have."""

    low: float
    high: float = math.inf
    above: bool = False  # `low` itself is not allowed


Whole = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, above=True)]


@dataclass(frozen=True)
class EmbeddedData:
    """Size and difficulty of the embedded clips (sheap_jax/data/embedded). All but `processes` name the cache."""

    train_identities: Count = 192
    test_identities: Count = 24
    clips_per_identity: Count = 2
    frames_per_clip: Count = 4
    image_size: Annotated[int, Range(16)] = 128  # pixels of the stored frames
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    people: str = "embedded:fine"  # whose: "embedded:<detail>" are generated; or those of a converted model (.npz)
    variety: str = (
        "portrait"  # or "wild": larger turns, stranger light, glasses, hats, hands (data/embedded/variety.py)
    )
    supersampling: Annotated[float, Range(0.5, 8)] = 1.5  # rendered pixels per stored pixel and axis
    landmark_noise: NotNegative = 0.012  # standard deviation per point, in distances between the eyes
    missing_landmarks: Share = 0.01  # share of landmarks that the simulated detector loses (weight 0)
    truth_splits: tuple[str, ...] = ("test",)
    processes: Count | None = None  # None: one per core, at most 8; does not change the result


@dataclass(frozen=True)
class Data:
    directory: str = ".cache/embedded-{settings}"  # shards; {settings} becomes a short name of what `embedded` says
    embedded: EmbeddedData | None = field(default_factory=EmbeddedData)  # None: real shards
    workers: Whole = 0  # decoding processes; 0 decodes in threads of this process
    across_clips: bool = False  # pairs across clips of one identity (their light differs)
    allow_self_pairs: bool = False  # stills: source = target
    flip: bool = True  # mirror pairs at random
    color_jitter: Share = 0.1  # gain of each colour channel, shared by both frames
    crop_jitter: Annotated[float, Range(0, 0.5)] = 0.0  # zoom and shift of each frame on its own, share of the image
    degrade: Share = 0.0  # share of pairs taken by a bad camera: blur, noise, odd tones, JPEG (data/degrade.py)
    max_bad_share: Share = 0.05  # share of unusable records among all drawn that stops the run


@dataclass(frozen=True)
class Estimator:
    """ViT with five tokens. The paper's is ViT-B/16 at 224 pixels: patch 16, width 768, depth 12, heads 12."""

    patch: Count = 16
    width: Count = 768
    depth: Count = 12
    heads: Count = 12
    free_joints: tuple[str, ...] = ("root", "jaw")  # joints that are predicted; the others stay straight
    eyelids: bool = True  # False: the eyelid channels of a FLAME that has them stay zero
    style: str = "plain"  # "farl": FaRL's transformer, for its weights or without (models/transformer.py)
    light_components: Annotated[int, Range(1, 27)] = 16  # of nine harmonics in three colours. Ours
    feature_dim: Count = 512  # ours
    head_width: Count = 512  # hidden units of the heads. Ours
    from_scratch: bool = False  # stem and token seeds for training without pretrained weights (models/patches.py). Ours
    nonnegative_expression: bool = False  # for blendshapes that only make sense between 0 and 1 (ICT)
    bfloat16: bool = False
    remat: bool = False


@dataclass(frozen=True)
class Weights:
    """Where networks start, and networks that do not learn. "": none. `sheap convert` makes all but `start`."""

    estimator: str = ""  # FaRL's, or the official release's: where the estimator starts. Needs style "farl"
    dinov2: str = ""  # the UV generator's context; without, the source's own patch tokens
    lpips: str = ""  # the perceptual term
    start: str = ""  # "pretrained", or a folder that `sheap export RUN OUT/` wrote: where all networks start


@dataclass(frozen=True)
class Regressor:
    """UV map generator and graph network (widths are ours)."""

    kind: str = "graph"  # or, for the ablation, "mlp" or "cnn" (models/regressor.py)
    isotropic: bool = False  # for the ablation: one size per triangle, (s_u + s_v) / 2, for all three axes
    uv_size: Annotated[int, Range(4)] = 64  # side of the UV feature map
    uv_channels: Count = 32
    uv_widest: Count = 128  # channels of the coarsest maps
    attention_size: Whole = 8  # maps up to this side attend to the context
    embedding_dim: Count = 32  # learnable e_i of every prototype
    graph_width: Count = 64
    graph_depth: Count = 2  # residual blocks
    source_colors: bool = False  # albedo starts from what the source image shows (method/source_colors.py). Ours


@dataclass(frozen=True)
class Prototypes:
    per_face: Annotated[int, Range(1, 6)] = 2  # at the start
    # Slots per face on average; inactive ones cost time but show nothing.
    capacity_per_face: Annotated[float, Range(1, 6)] = 4.0
    densify_every: Whole = 1000  # steps; 0 switches densification off. Ours
    # Of the slots: prototypes duplicated (and pruned, when full) each time. Ours.
    densify_share: Annotated[float, Range(0, 1, above=True)] = 0.05
    densify_until: Whole = 100_000  # last step that densifies. Ours


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms in sheap_jax/method/objective.py (all ours: we have not found the paper's)."""

    landmarks: NotNegative = 1.0
    contour: NotNegative = 1.0  # relative weight of the jaw line within the landmark term
    mouth: NotNegative = 1.0  # relative weight of the mouth within the landmark term; 0: only pictures move it
    l1: NotNegative = 1.0
    ssim: NotNegative = 0.2
    gradient: NotNegative = 0.5
    perceptual: NotNegative = 0.1  # off where weights.lpips is empty
    normal: NotNegative = 0.05
    depth: NotNegative = 0.5
    shape: NotNegative = 1e-4
    expression: NotNegative = 1e-4
    offset: NotNegative = 0.01
    scale: NotNegative = 0.01
    background: NotNegative = 0.1  # photometric weight of pixels that the mesh does not cover
    off_face: NotNegative = 1.0  # photometric weight of the mesh's pixels outside its region "face": hair lies on them
    # No loss of the method: squared distance from generated people's true shape, for configs/ablations/supervised.py.
    true_shape: NotNegative = 0.0
    mean_share: Share = 1.0  # of the shape gradient from pictures that is common to a batch's heads (docs/method.md)


@dataclass(frozen=True)
class Optimizer:
    learning_rate: NotNegative = 1e-4
    regressor_learning_rate: NotNegative = 1e-3
    warmup_steps: Whole = 200
    final_share: Share = 0.05  # of the learning rate at the end of the cosine
    rendered_share: NotNegative = 0.3  # of the geometry's rate where rendering begins after geometry_steps. Ours
    weight_decay: NotNegative = 0.01
    clip_norm: Positive = 1.0  # of each network's gradient
    accumulate: Count = 1  # parts of a batch computed one after another: memory of one part, update of the whole batch
    flat_moments: bool = True  # Adam's moments as one vector: faster for small networks, cannot be shared out (fsdp)
    muon: bool = False  # orthogonalised updates for the estimator's matrices (training/optimizer.py). Ours


@dataclass(frozen=True)
class Devices:
    """How the run is spread out (docs/scale.md); what it computes does not depend on it."""

    fsdp: Count = 1  # devices that share out parameters and optimiser state; 1: each device holds all of them
    distributed: bool = False  # JAX finds the other processes by itself (training/sharding.py)
    heartbeat_seconds: Count = 30  # a process silent for so long counts as dead, and the others stop


@dataclass(frozen=True)
class Faults:
    """What a run tolerates before it stops (docs/faults.md)."""

    max_skipped: Whole = 10  # steps of the last `window` that may go unapplied: NaN, infinity, exploding loss
    window: Count = 1000
    explosion: Annotated[float, Range(1, above=True)] = 20.0  # a loss that many times its running mean is not applied
    stall_seconds: Positive = 600.0  # a stage (input, step, checkpoint) that takes longer ends the process
    list_growths: Whole = 4  # times that the rasteriser's lists may grow where entries find no room; 0: never
    compile_seconds: Positive = 7200.0  # the same for compiling a program: half an hour for a step on a pod


@dataclass(frozen=True)
class Log:
    directory: str = "runs/{name}"  # checkpoints, metrics, pictures, configuration; also gs:// (docs/cloud.md)
    metrics_every: Whole = 10  # steps
    pictures_every: Whole = 250
    checkpoint_every: Whole = 250
    validate_every: Whole = 0  # scores of held-out pairs (docs/watching.md), the best checkpoint is kept; 0: none
    keep_checkpoints: Count = 2  # newest ones; the best is kept beside them


@dataclass(frozen=True)
class Config:
    name: str
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    steps: Whole = 200_000
    geometry_steps: Whole = 0  # first steps: landmarks and regularisers only, nothing is rendered. Ours
    batch_size: Count = 32  # pairs per step, over all devices
    image_size: Annotated[int, Range(16)] = 224  # pixels
    morphable: str = "embedded:coarse"  # "embedded:<detail>", or the .npz of a converted model
    rasterizer: str | None = None  # implementation of tileraster; None picks by device
    primitive: str = "surfels"  # or, for the ablation, "ellipsoids": 3D Gaussians (docs/method.md)
    light: str = "generated"  # prior; or the folder of a Basel Illumination Prior, or "none": colour = albedo
    data: Data = field(default_factory=Data)
    weights: Weights = field(default_factory=Weights)
    estimator: Estimator = field(default_factory=Estimator)
    regressor: Regressor = field(default_factory=Regressor)
    prototypes: Prototypes = field(default_factory=Prototypes)
    losses: LossWeights = field(default_factory=LossWeights)
    optimizer: Optimizer = field(default_factory=Optimizer)
    devices: Devices = field(default_factory=Devices)
    faults: Faults = field(default_factory=Faults)
    log: Log = field(default_factory=Log)

    @property
    def run_directory(self) -> str:
        """Where the run is kept. KeyError, IndexError or ValueError for braces that are not {name}."""
        return self.log.directory.format(name=self.name)


# Fields that older versions stored in config.json, by dotted name, with the only value that still means something.
REMOVED_FIELDS = {"losses.position_share": 1.0}
