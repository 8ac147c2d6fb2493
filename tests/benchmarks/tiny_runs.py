"""Configurations that train within seconds: of the method's parts nothing is left out, all are tiny."""

from pathlib import Path

NETWORKS = """
    estimator=Estimator(patch=16, width=16, depth=1, heads=2, feature_dim=16, head_width=16, light_components=3),
    regressor=Regressor(uv_size=8, uv_channels=4, embedding_dim=4, graph_width=8, graph_depth=1),
    prototypes=Prototypes(per_face=1, capacity_per_face=1.0, densify_every=0),
    optimizer=Optimizer(learning_rate=1e-3, warmup_steps=2),
"""
TEMPLATE = """
from sheap_jax.config import *

def get_config():
    return Config(
        name="tiny", steps=3, geometry_steps=2, batch_size=2, image_size=32,
        data=Data(
            directory={data!r},
            embedded=EmbeddedData(
                train_identities=3, test_identities=3, clips_per_identity=1, frames_per_clip=2, image_size=32,
                people="embedded:coarse", processes=1,
            ),
        ),
        log=Log(directory={run!r}, metrics_every=1, pictures_every=0, checkpoint_every=100),
{networks}
    )
"""


def write_config(folder: Path) -> Path:
    """A configuration file on generated people; shards and run lie in `folder`."""
    file = folder / "tiny.py"
    file.write_text(TEMPLATE.format(data=str(folder / "shards"), run=str(folder / "run"), networks=NETWORKS))
    return file
