import numpy as np
import pytest
from matplotlib.path import Path
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sheap_jax.evaluation.image_scores import MAX_PSNR, hull_mask, psnr, ssim


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    first = rng.uniform(size=(2, 24, 24, 3))
    return first, np.clip(first + 0.1 * rng.normal(size=first.shape), 0, 1)


def test_scores_of_whole_images_equal_scikit_image(pictures):
    first, second = pictures
    for k, value in enumerate(psnr(first, second)):
        assert value == pytest.approx(peak_signal_noise_ratio(first[k], second[k], data_range=1.0))
    for k, value in enumerate(ssim(first, second)):
        _, full = structural_similarity(
            first[k], second[k], gaussian_weights=True, use_sample_covariance=False, data_range=1.0, channel_axis=-1,
            full=True,
        )  # fmt: skip
        assert value == pytest.approx(full.mean(), abs=1e-5)


def test_only_the_mask_counts(pictures):
    first, second = (picture.copy() for picture in pictures)
    mask = np.zeros(first.shape[:3], bool)
    mask[:, 5:9, 6:8] = True
    expected = [peak_signal_noise_ratio(first[k, 5:9, 6:8], second[k, 5:9, 6:8], data_range=1.0) for k in range(2)]
    second[~mask] = 0.0
    np.testing.assert_allclose(psnr(first, second, mask), expected)


def test_equal_images_have_a_finite_psnr(pictures):
    np.testing.assert_allclose(psnr(pictures[0], pictures[0]), MAX_PSNR)


def test_an_empty_mask_is_named(pictures):
    mask = np.ones(pictures[0].shape[:3], bool)
    mask[1] = False
    with pytest.raises(ValueError, match="image 1"):
        psnr(*pictures, mask)


def test_hull_mask_equals_a_polygon_test():
    points = np.random.default_rng(1).uniform(3, 17, size=(3, 2))
    y, x = np.mgrid[:15, :20] + 0.5
    truth = Path(points).contains_points(np.stack([x.ravel(), y.ravel()], axis=1)).reshape(15, 20)
    inside = np.concatenate([points, points.mean(axis=0, keepdims=True)])  # a point inside changes nothing
    np.testing.assert_array_equal(hull_mask(inside, height=15, width=20), truth)
