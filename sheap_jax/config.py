"""What a run is: plain dataclasses. One file per run under configs/ fills them in.

Every field has a unit or a meaning in its comment; fields marked "ours" have no known value in the paper.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EmbeddedData:
    """Size and difficulty of the embedded clips (sheap_jax/data/embedded). All but `processes` name the cache."""

    train_identities: int = 192
    test_identities: int = 24
    clips_per_identity: int = 2
    frames_per_clip: int = 4
    image_size: int = 128  # pixels of the stored frames
    seed: int = 0
    people: str = "embedded:fine"  # whose: "embedded:<detail>" are generated; or those of a converted model (.npz)
    supersampling: float = 1.5  # rendered pixels per stored pixel and axis
    landmark_noise: float = 0.012  # standard deviation per point, in distances between the eyes
    missing_landmarks: float = 0.01  # share of landmarks that the simulated detector loses (weight 0)
    truth_splits: tuple[str, ...] = ("test",)
    processes: int | None = None  # None: one per core, at most 8; does not change the result

    def __post_init__(self) -> None:
        for name in ("train_identities", "test_identities", "clips_per_identity", "frames_per_clip", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"EmbeddedData.{name} is {getattr(self, name)}, it must be at least 1")
        unknown = set(self.truth_splits) - {"train", "test"}
        if unknown:
            raise ValueError(f"EmbeddedData.truth_splits names {sorted(unknown)}; the splits are train and test")


@dataclass(frozen=True)
class Data:
    directory: str = ".cache/embedded-{settings}"  # shards; {settings} becomes a short name of what `embedded` says
    embedded: EmbeddedData | None = field(default_factory=EmbeddedData)  # None: real shards
    workers: int = 0  # decoding processes; 0 decodes in threads of this process
    across_clips: bool = False  # pairs across clips of one identity (their light differs)
    allow_self_pairs: bool = False  # stills: source = target
    flip: bool = True  # mirror pairs at random
    color_jitter: float = 0.1  # gain of each colour channel, shared by both frames
    crop_jitter: float = 0.0  # zoom and shift of each frame on its own, share of the image
    max_bad_share: float = 0.05  # share of unusable records among all drawn that stops the run


@dataclass(frozen=True)
class Estimator:
    """ViT with five tokens. The paper's is ViT-B/16 at 224 pixels: patch 16, width 768, depth 12, heads 12."""

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    free_joints: tuple[str, ...] = ("root", "jaw")  # joints that are predicted; the others stay straight
    eyelids: bool = True  # False: the eyelid channels of a FLAME that has them stay zero
    style: str = "plain"  # "farl": FaRL's transformer, for its weights or without (models/transformer.py)
    light_components: int = 16  # ours
    feature_dim: int = 512  # ours
    head_width: int = 512  # hidden units of the heads. Ours
    from_scratch: bool = False  # stem and token seeds for training without pretrained weights (models/patches.py). Ours
    nonnegative_expression: bool = False  # for blendshapes that only make sense between 0 and 1 (ICT)
    bfloat16: bool = False
    remat: bool = False


@dataclass(frozen=True)
class Weights:
    """Published weights, converted by sheap_jax.models.convert. "": none."""

    estimator: str = ""  # FaRL's, or the official release's: where the estimator starts. Needs style "farl"
    dinov2: str = ""  # the UV generator's context; without, the source's own patch tokens
    lpips: str = ""  # the perceptual term


@dataclass(frozen=True)
class Regressor:
    """UV map generator and graph network (widths are ours)."""

    kind: str = "graph"  # or, for the ablation, "mlp" or "cnn" (models/regressor.py)
    isotropic: bool = False  # for the ablation: one size per triangle, (s_u + s_v) / 2, for all three axes
    uv_size: int = 64  # side of the UV feature map
    uv_channels: int = 32
    uv_widest: int = 128  # channels of the coarsest maps
    attention_size: int = 8  # maps up to this side attend to the context
    embedding_dim: int = 32  # learnable e_i of every prototype
    graph_width: int = 64
    graph_depth: int = 2  # residual blocks


@dataclass(frozen=True)
class Prototypes:
    per_face: int = 2  # at the start
    capacity_per_face: float = 4.0  # slots per face on average; inactive ones cost time but show nothing
    densify_every: int = 1000  # steps; 0 switches densification off. Ours
    densify_share: float = 0.05  # of the slots: prototypes duplicated (and pruned, when full) each time. Ours
    densify_until: int = 100_000  # last step that densifies. Ours


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms in sheap_jax/training/objective.py (all ours: the paper's are unpublished)."""

    landmarks: float = 1.0
    contour: float = 1.0  # relative weight of the jaw line within the landmark term
    mouth: float = 1.0  # relative weight of the mouth within the landmark term; 0: only pictures move it
    l1: float = 1.0
    ssim: float = 0.2
    gradient: float = 0.5
    perceptual: float = 0.1  # off where weights.lpips is empty
    normal: float = 0.05
    depth: float = 0.5
    shape: float = 1e-4
    expression: float = 1e-4
    offset: float = 0.01
    scale: float = 0.01
    background: float = 0.1  # photometric weight of pixels that the mesh does not cover
    off_face: float = 1.0  # photometric weight of the mesh's pixels outside its region "face": hair lies on them
    mean_share: float = 1.0  # of what pictures teach the shape of all heads of a batch alike (docs/method.md)
    position_share: float = 1.0  # of what they teach it through positions; shading keeps all


@dataclass(frozen=True)
class Optimizer:
    learning_rate: float = 1e-4
    regressor_learning_rate: float = 1e-3
    warmup_steps: int = 200
    final_share: float = 0.05  # of the learning rate at the end of the cosine
    rendered_share: float = 0.3  # of the geometry's learning rate where rendering begins after geometry_steps. Ours
    weight_decay: float = 0.01
    clip_norm: float = 1.0  # of each network's gradient
    accumulate: int = 1  # parts of a batch computed one after another: memory of one part, update of the whole batch
    flat_moments: bool = True  # Adam's moments as one vector: faster for small networks, cannot be shared out (fsdp)
    muon: bool = False  # orthogonalised updates for the estimator's matrices (training/optimizer.py). Ours


@dataclass(frozen=True)
class Devices:
    """How the run is spread out (docs/scale.md); what it computes does not depend on it."""

    fsdp: int = 1  # devices that share out parameters and optimiser state; 1: each device holds all of them
    distributed: bool = (
        False  # several processes, found by JAX; environment variables do without (training/sharding.py)
    )
    heartbeat_seconds: int = 30  # a process silent for so long counts as dead, and the others stop


@dataclass(frozen=True)
class Faults:
    """What a run puts up with before it stops (docs/faults.md)."""

    max_skipped: int = 10  # steps among the last `window` that were not applied: NaN, infinity, exploding loss
    window: int = 1000
    explosion: float = 20.0  # a loss that many times its running mean is not applied
    stall_seconds: float = 600.0  # a stage (input, step, checkpoint) that takes longer ends the process


@dataclass(frozen=True)
class Log:
    directory: str = "runs/{name}"  # checkpoints, metrics, pictures, configuration
    metrics_every: int = 10  # steps
    pictures_every: int = 250
    checkpoint_every: int = 250
    keep_checkpoints: int = 2


@dataclass(frozen=True)
class Config:
    name: str
    seed: int = 0
    steps: int = 200_000
    geometry_steps: int = 0  # first steps: landmarks and regularisers only, nothing is rendered. Ours
    batch_size: int = 32  # pairs per step, over all devices
    image_size: int = 224  # pixels
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
        return self.log.directory.format(name=self.name)
