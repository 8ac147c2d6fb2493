"""The Python API on a run of a few units."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from sheap_jax import Predictor, assembly, config_files
from sheap_jax.inference.batches import BUCKETS, in_buckets
from sheap_jax.morphable.registry import load_morphable
from sheap_jax.training import run_directory, start
from sheap_jax.training.checkpoint import CheckpointError, Checkpoints
from tests.training.conftest import SIZE, make_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    """Of a checkpoint whose weights are drawn at random, so that every output depends on the picture."""
    config = make_config(tmp_path_factory.mktemp("run"))
    model = load_morphable(config.morphable)
    assets, networks = assembly.build_assets(config, model), assembly.build_networks(config, model)
    state = start.initial_state(config, networks, assets)
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(x.dtype), state.params["estimator"])
    with run_directory.claim(config) as run:
        run.begin(0)
        checkpoints = Checkpoints(run.path)
        checkpoints.save(state.replace(params=state.params | {"estimator": drawn}))
        checkpoints.close()
    return Predictor.from_checkpoint(run.path)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(BUCKETS[-1] + 3, SIZE, SIZE, 3)).astype(np.float32)


def test_any_number_of_images_gives_what_each_gives_alone(predictor, images):
    """Against the network without padding and batches."""
    network = jax.jit(predictor.parts().networks.estimator.apply)
    output = network({"params": predictor.parts().learned.params["estimator"]}, images)
    for count in (2, len(images)):
        head = predictor(images[:count])
        for ours, expected in zip(head, output.estimate.head, strict=True):
            assert isinstance(ours, np.ndarray)
            np.testing.assert_allclose(ours, expected[:count], atol=1e-5)
    assert np.ptp(head.shape, axis=0).min() > 1e-3
    with pytest.raises(ValueError, match="no image"):
        predictor(images[:0])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda images: (255 * images).astype(np.uint8), r"uint8 \[1, 32, 32, 3\]"),
        (lambda images: 255 * images, r"float32 \[1, 32, 32, 3\] from .* to 25\d"),
        (lambda images: np.full_like(images, np.nan), "from nan to nan"),
        (lambda images: images[:, :20], r"\[1, 20, 32, 3\], they must be floating-point \[n, 32, 32, 3\] in \[0, 1\]"),
        (lambda images: np.moveaxis(images, -1, 1), r"\[1, 3, 32, 32\]"),
        (lambda images: images[0], r"\[32, 32, 3\]"),
    ],
)
def test_images_of_another_kind_are_refused(predictor, images, change, found):
    wrong = change(images[:1])
    with pytest.raises(ValueError, match=found):
        predictor(wrong)
    with pytest.raises(ValueError, match=found):
        predictor.reanimate(images[:1], wrong)


def test_threads_share_what_is_compiled(predictor, images):
    expected = predictor(images)
    with ThreadPoolExecutor(4) as pool:
        counts = [2 + k for k in range(12)]
        found = list(pool.map(lambda count: predictor(images[:count]), counts))
    for count, head in zip(counts, found, strict=True):
        np.testing.assert_allclose(head.shape, expected.shape[:count], atol=1e-6)
    assert predictor._estimate._cache_size() == 2  # for 4 and 16 images


def test_slices_of_few_sizes():
    sizes = []

    def double(tree):
        sizes.append(len(tree["x"]))
        return 2 * tree["x"], tree["y"]

    for count in (1, 3, 4, 7, 16, 17, 40):
        tree = {"x": np.arange(count), "y": np.arange(2 * count).reshape(count, 2)}
        first, second = in_buckets(double, tree)
        np.testing.assert_array_equal(first, 2 * tree["x"])
        np.testing.assert_array_equal(second, tree["y"])
    assert sizes == [1, 4, 4, 16, 16, 16, 1, 16, 16, 16]


def test_a_folder_without_a_run_says_so(tmp_path, predictor):
    with pytest.raises(CheckpointError, match=r"is no run directory: it has no config\.json"):
        Predictor.from_checkpoint(tmp_path)
    config_files.save_json(predictor.config, tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="holds no finished checkpoint yet"):
        Predictor.from_checkpoint(tmp_path)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, sheap_jax; assert not {'jax', 'numpy', 'flax'} & set(sys.modules); sheap_jax.Predictor"
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
