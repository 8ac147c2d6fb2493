"""Real clips prepared by `sheap prepare`, with the converted ICT head: overfits a few people on purpose.

    sheap convert ict ICT-FaceKit assets/ict.npz
    sheap prepare VIDEOS --landmarks LANDMARKS.npz --output assets/clips
    sheap train --config clip

Measured on 3 clips (278 training frames, seed 0), two CPU cores: 6 min 43 s; rendered targets 24 dB on the training
frames, recognisably the person with the target's pose and mouth, the mesh lies on the face. With weaker priors (0.02 on
shape and expression) the landmarks fit as well and the blendshapes puff up the mouth. On the last 31 frames,
which were held out (docs/results.md), eyes, nose and mouth are off by 3.2 % of the distance of the eyes, and the
re-animated face has 26.9 dB where a copy of the source frame has 18.9.
"""

from sheap_jax.config import Config, Data, Estimator, Log, LossWeights, Optimizer, Prototypes, Regressor


def get_config() -> Config:
    return Config(
        name="clip",
        steps=3_100,
        geometry_steps=2_500,
        batch_size=4,
        image_size=96,
        morphable="assets/ict.npz",
        data=Data(directory="assets/clips", embedded=None, flip=False, crop_jitter=0.03),
        estimator=Estimator(
            patch=16,
            from_scratch=True,
            width=96,
            depth=1,
            heads=3,
            head_width=96,
            free_joints=("root",),
            nonnegative_expression=True,
            feature_dim=128,
            light_components=9,
        ),
        regressor=Regressor(uv_size=64, uv_channels=24, embedding_dim=16, graph_width=32, graph_depth=2),
        prototypes=Prototypes(per_face=1, capacity_per_face=1.0, densify_every=0),
        losses=LossWeights(landmarks=20.0, shape=0.1, expression=0.2),
        optimizer=Optimizer(learning_rate=1.5e-3, final_share=0.2, regressor_learning_rate=5e-3, warmup_steps=100),
        log=Log(metrics_every=20, pictures_every=250, checkpoint_every=250, validate_every=250),
    )
