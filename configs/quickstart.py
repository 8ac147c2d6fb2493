"""Embedded heads on two CPU cores in minutes: the run that `sheap train` starts.

Measured (seed 0, two cores, from a clean clone): 6 min 0 s and 3.0 GB with data generation and evaluation; on its own
test people neutral median 1.15 mm against the mean head's 1.25 (ratio 0.92; the aim is 0.8), landmarks 0.86 px against
5.55, re-animated faces 27.3 dB (source unchanged 22.0). Surfels start with the colours of the source: 150 rendered
steps do for appearance, and the minutes go into people, which geometry needs (docs/experiments/source_colors.md).
"""

from sheap_jax.config import Config, Data, EmbeddedData, Estimator, Log, LossWeights, Optimizer, Prototypes, Regressor


def get_config() -> Config:
    return Config(
        name="quickstart",
        steps=3150,
        geometry_steps=3000,
        batch_size=8,
        image_size=96,
        morphable="embedded:coarse",
        data=Data(embedded=EmbeddedData(train_identities=1250, clips_per_identity=1, frames_per_clip=2, image_size=96)),
        estimator=Estimator(
            patch=16,
            from_scratch=True,
            width=96,
            depth=1,
            heads=3,
            head_width=96,
            feature_dim=64,
            light_components=9,
        ),
        regressor=Regressor(
            uv_size=32, uv_channels=24, embedding_dim=16, graph_width=32, graph_depth=2, source_colors=True
        ),
        prototypes=Prototypes(per_face=1, capacity_per_face=1.0, densify_every=0),
        losses=LossWeights(
            landmarks=20.0,
            l1=0.5,
            ssim=1.5,
            gradient=2.0,
            depth=0.05,
            shape=0.05,
            expression=0.01,
            mean_share=0.0,
        ),
        optimizer=Optimizer(
            learning_rate=1.5e-3, regressor_learning_rate=5e-3, warmup_steps=50, rendered_share=0.05, muon=True
        ),
        log=Log(metrics_every=20, pictures_every=0, checkpoint_every=500),
    )
