"""The reader of the Basel Illumination Prior on a folder of exactly its layout."""

import json

import numpy as np
import pytest

from sheap_jax.method.basel_prior import load_basel_prior


@pytest.fixture
def archive(tmp_path):
    """Thirty parameter files with known coefficients."""
    environments = np.random.default_rng(0).normal(size=(30, 9, 3))
    (tmp_path / "parameters").mkdir()
    for k, environment in enumerate(environments):
        content = {"view": {"scale": 1}, "environmentMap": {"coefficients": environment.tolist()}}
        (tmp_path / "parameters" / f"{k:04d}.rps").write_text(json.dumps(content))
    return tmp_path, environments


def test_prior_has_the_archives_mean_and_leading_variance(archive):
    folder, environments = archive
    prior = load_basel_prior(folder, 4)
    assert prior.basis.shape == (4, 9, 3)
    np.testing.assert_allclose(prior.mean, environments.mean(axis=0), atol=1e-6)
    variances = np.sort(np.linalg.eigvalsh(np.cov(environments.reshape(30, 27), rowvar=False)))[::-1]
    np.testing.assert_allclose(np.sum(np.asarray(prior.basis) ** 2, axis=(1, 2)), variances[:4], rtol=1e-4)


def test_an_empty_folder_says_what_to_download(tmp_path):
    with pytest.raises(FileNotFoundError, match="Basel Illumination Prior"):
        load_basel_prior(tmp_path, 4)


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"environmentMap": {"coefficients": [[1, 2, 3]]}}', '{"environmentMap": 3}']
)
def test_a_broken_file_is_named(archive, content):
    folder, _ = archive
    (folder / "parameters" / "0007.rps").write_text(content)
    with pytest.raises(ValueError, match=r"0007\.rps"):
        load_basel_prior(folder, 4)
