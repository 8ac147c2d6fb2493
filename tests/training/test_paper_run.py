"""configs/base.py as its user runs it: every asset from a file of its owner's kind and size, videos of real people."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from sheap_jax.config_files import load_json
from sheap_jax.inference.predictor import Predictor
from sheap_jax.morphable.flame_files import FACES
from sheap_jax.training.metrics import read_metrics
from tests.training import true_size

ROOT = Path(__file__).parents[2]
STEPS, DENSIFY_AT = 4, 2
SHORT = [  # the paper's configuration, but for how long it runs and how often it reports
    f"--config.steps={STEPS}",
    "--config.geometry_steps=1",
    "--config.batch_size=2",
    f"--config.prototypes.densify_every={DENSIFY_AT}",
    "--config.log.metrics_every=1",
    f"--config.log.pictures_every={STEPS}",
    f"--config.log.checkpoint_every={DENSIFY_AT}",
    "--config.faults.stall_seconds=3600",
    "--config.data.workers=0",
]


class Assets(NamedTuple):
    """What a user has made of the downloads."""

    folder: Path
    shards: Path


def command(*arguments: str | Path) -> str:
    """What `python ARGUMENTS`, run from the repository's root, prints; it has to succeed."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    words = [sys.executable, *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def assets(tmp_path_factory, shared_data) -> Assets:
    pytest.importorskip("torch", reason="needs torch (pip install 'sheap-jax[parity]') to write weights as it does")
    folder = tmp_path_factory.mktemp("assets")
    flame = true_size.write_flame(folder, shared_data / "ict_face_model.npz")
    command("-m", "sheap_jax.morphable.flame", *flame, folder / "flame2020.npz")
    for network, *files in true_size.write_weights(folder):
        command("-m", "sheap_jax.models.convert", network, files[0], folder / f"{network}.npz", *files[1:])
        for file in files:
            if Path(file).suffix == ".pth":
                Path(file).unlink()
    true_size.write_light_prior(folder / "bip2017")
    clips, points = shared_data / "faces" / "clips", shared_data / "faces" / "landmarks.npz"
    prepare = ["--landmarks", points, "--output", folder / "shards", "--stride", "5", "--test-share", "0.2"]
    videos = sorted(clips.glob("*.mp4"))
    command("-m", "sheap_jax.data.prepare", *videos, *prepare, "--hold-out", "frames", "--processes", "0")
    return Assets(folder, folder / "shards")


@pytest.mark.slow
def test_the_papers_configuration_trains_saves_evaluates_and_predicts(assets, shared_data, tmp_path):
    run, folder = tmp_path / "base", assets.folder
    files = {"morphable": "flame2020.npz", "light": "bip2017", "data.directory": "shards"}
    files |= {"weights.estimator": "farl.npz", "weights.dinov2": "dinov2.npz", "weights.lpips": "lpips.npz"}
    places = [f"--config.{field}={folder / name}" for field, name in files.items()]
    train = ["train.py", "--config", "configs/base.py", *places, *SHORT, f"--config.log.directory={run}"]
    command(*train)

    settings = load_json(run / "config.json")
    assert (settings.estimator.width, settings.estimator.depth, settings.image_size) == (768, 12, 224)
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))
    for term in ("landmarks_source", "landmarks_target", "l1", "ssim", "gradient", "perceptual", "normal", "depth"):
        assert rows[-1][f"loss/{term}"] > 0, term
    assert not (run / "skipped.jsonl").exists()
    assert (run / "pictures" / f"{STEPS:07d}.png").exists()
    prototypes = Predictor.from_checkpoint(run, step=STEPS).parts().learned.prototypes
    assert int(prototypes.active.sum()) > settings.prototypes.per_face * FACES  # they have been duplicated

    points = ["--landmarks", shared_data / "faces" / "landmarks.npz"]
    report = command("eval.py", "--checkpoint", run, "--benchmark", "clips")
    assert "mean head" in report
    picture = shared_data / "faces" / "public_domain" / "astronaut.png"
    command("predict.py", picture, "--checkpoint", run, "--output", tmp_path / "out", *points, "--save", "params,obj")
    saved = np.load(tmp_path / "out" / "astronaut" / "params.npz")
    assert saved["shape"].shape == (1, 300)
    assert saved["expression"].shape == (1, 100)

    command(*[word for word in train if "config.steps=" not in str(word)], f"--config.steps={STEPS + 1}")
    assert read_metrics(run / "metrics.jsonl")[-1]["step"] == STEPS + 1
