"""The paper's configuration: ViT-B/16 at 224 pixels, FLAME, VoxCeleb2 prepared into shards.

Needs assets that users fetch themselves (NOTICE), converted by `sheap convert` and `sheap prepare`,
and the unpacked Basel Illumination Prior. A weight's path left empty is a run without it;
`--config.light=generated` is one without Basel's prior. What is known of the paper's settings, and every choice of ours
with its reason, is in docs/method.md, "What is known, and what is ours". A slow test takes a few steps of it,
with stand-ins of all files at their true sizes (tests/training/test_paper_run.py). It was never trained by us: no
result is stated.
"""

from sheap_jax.config import Config, Data, Estimator, Log, LossWeights, Optimizer, Prototypes, Regressor, Weights


def get_config() -> Config:
    return Config(
        name="base",
        steps=200_000,
        geometry_steps=5_000,
        batch_size=64,
        image_size=224,
        morphable="assets/flame2020.npz",
        light="assets/bip2017",
        data=Data(directory="assets/voxceleb2", embedded=None, workers=8),
        weights=Weights(estimator="assets/farl.npz", dinov2="assets/dinov2_vitb14.npz", lpips="assets/lpips.npz"),
        estimator=Estimator(style="farl", bfloat16=True),
        regressor=Regressor(
            uv_size=128,
            uv_channels=64,
            uv_widest=512,
            attention_size=16,
            embedding_dim=64,
            graph_width=128,
            graph_depth=4,
        ),
        prototypes=Prototypes(per_face=2, capacity_per_face=4.0, densify_every=1_000, densify_until=150_000),
        losses=LossWeights(landmarks=0.5, contour=0.5),
        optimizer=Optimizer(
            learning_rate=1e-4,
            regressor_learning_rate=1e-3,
            warmup_steps=2_000,
            rendered_share=1.0,
            flat_moments=False,
        ),
        log=Log(metrics_every=50, pictures_every=2_000, checkpoint_every=2_000, validate_every=2_000),
    )
