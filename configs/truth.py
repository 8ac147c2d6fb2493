"""Generated heads at the paper's resolution on one GPU: how good the geometry gets where the truth is known.

    python benchmarks/gpu_truth.py --minutes 8        # trains this and scores its checkpoints; the same line goes on

The method's sizes, with two differences: the estimator is a smaller transformer, as it starts from random weights (the
paper's starts from FaRL's), and there is no DINOv2. Loss weights are small.py's; widths, steps and rates are guesses.
Never run by us: no result and no cost is stated.
"""

from sheap_jax.config import Config, Data, EmbeddedData, Estimator, Log, Optimizer, Prototypes, Regressor
from sheap_jax.config_files import load_file


def get_config() -> Config:
    return Config(
        name="truth",
        steps=30_000,
        geometry_steps=15_000,
        batch_size=64,
        image_size=224,
        morphable="embedded:fine",
        data=Data(
            embedded=EmbeddedData(
                train_identities=6_000, test_identities=48, clips_per_identity=1, frames_per_clip=2, image_size=224
            ),
            crop_jitter=0.03,
            workers=8,
        ),
        estimator=Estimator(
            from_scratch=True, width=384, depth=4, heads=6, feature_dim=256, light_components=9, bfloat16=True
        ),
        regressor=Regressor(
            uv_size=128,
            uv_channels=64,
            uv_widest=256,
            attention_size=16,
            embedding_dim=64,
            graph_width=128,
            graph_depth=4,
        ),
        prototypes=Prototypes(per_face=2, capacity_per_face=4.0, densify_every=1_000, densify_until=25_000),
        losses=load_file("small").losses,
        optimizer=Optimizer(
            learning_rate=1e-3, regressor_learning_rate=3e-3, warmup_steps=300, rendered_share=0.2, muon=True
        ),
        log=Log(
            metrics_every=100, pictures_every=1_500, checkpoint_every=750, validate_every=1_500, keep_checkpoints=40
        ),
    )
