"""The model that comes with this package, under the name "pretrained": generated people of the wilder kind.

Turned heads, broad smiles, open mouths, glasses, hats, hands before the face, strange light, bad cameras: all that
photographs have and a portrait studio has not. Measured (seed 0, two CPU cores, not alone on them): 5 min for the
people, 28 min for the training. sheap_jax/pretrained/MODEL_CARD.md has what it reaches.

    sheap train --config release
    sheap export runs/release sheap_jax/pretrained/
"""

from sheap_jax.config import Config, Data, EmbeddedData, Estimator, Log, LossWeights, Optimizer, Prototypes, Regressor


def get_config() -> Config:
    return Config(
        name="release",
        steps=37_000,
        geometry_steps=36_000,
        batch_size=8,
        image_size=96,
        morphable="embedded:coarse",
        data=Data(
            embedded=EmbeddedData(
                train_identities=4_500,
                test_identities=48,
                clips_per_identity=1,
                frames_per_clip=2,
                image_size=96,
                variety="wild",
            ),
            crop_jitter=0.05,
            degrade=0.7,
        ),
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
            shape=0.01,
            expression=0.01,
            mean_share=0.0,
        ),
        optimizer=Optimizer(
            learning_rate=1.5e-3, regressor_learning_rate=5e-3, warmup_steps=100, rendered_share=0.1, muon=True
        ),
        log=Log(metrics_every=100, pictures_every=0, checkpoint_every=1_000),
    )
