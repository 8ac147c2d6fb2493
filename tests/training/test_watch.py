"""What stops a run early."""

import numpy as np
import pytest

from sheap_jax.training.step import StepReport
from sheap_jax.training.watch import NotFiniteError, check_batch, check_report
from sheap_jax.types import Batch, Frame


def key(record: int) -> str:
    return f"person{record // 10}/clip/{record}"


def make_batch() -> Batch:
    def frame():
        return Frame(np.zeros((3, 4, 4, 3), np.float32), np.zeros((3, 68, 2), np.float32), np.ones((3, 68), np.float32))

    return Batch(frame(), frame(), np.array([[10, 11], [20, 21], [30, 31]]))


def test_sound_batch_passes():
    check_batch(make_batch(), key)


@pytest.mark.parametrize("field", ["image", "landmarks", "landmark_weight"])
def test_nan_in_the_data_names_the_record(field):
    batch = make_batch()
    getattr(batch.target, field)[1].flat[0] = np.nan
    with pytest.raises(NotFiniteError, match="person2/clip/20 -> person2/clip/21") as caught:
        check_batch(batch, key)
    assert "person1" not in str(caught.value)


def test_a_step_that_was_not_applied_names_its_records():
    report = StepReport({}, np.array([True, True, False]), np.array(False))
    with pytest.raises(NotFiniteError, match=r"step 7 .*prediction.*person3/clip/30") as caught:
        check_report(report, 7, make_batch().record, key)
    assert "person1" not in str(caught.value)


def test_a_bad_gradient_names_the_whole_batch():
    report = StepReport({}, np.array([True, True, True]), np.array(False))
    with pytest.raises(NotFiniteError, match=r"gradient.*person1.*person2.*person3"):
        check_report(report, 7, make_batch().record, key)


def test_an_applied_step_passes():
    check_report(StepReport({}, np.array([True]), np.array(True)), 7, make_batch().record, key)
