"""tensorflow-datasets reads the same shards, and TensorFlow is not asked for."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_clips import SIZE, decode_rgb, make_records

from sheap_jax.data.records import ShardError, write_split

tfds = pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets (pip install 'sheap-jax[tfds]')")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    write_split(path, "train", make_records(), settings={}, records_per_shard=5)
    write_split(path, "test", make_records({"eva": {"e0": 2}}), settings={})
    return path


def load(shards, split, **options):
    import sheap_jax.data.tfds_voxceleb2  # noqa: F401 makes the name known

    return tfds.data_source("tfds_voxceleb2", split=split, builder_kwargs={"shards": shards}, **options)


def test_every_record_comes_out(shards):
    source = load(shards, "train")
    assert len(source) == len(make_records())
    for example, record in zip(source, make_records(), strict=True):
        assert (example["identity"], example["clip"], example["frame"]) == record[:3]
        np.testing.assert_array_equal(example["image"], decode_rgb(record.image))
        np.testing.assert_array_equal(example["landmarks"], record.landmarks)
        np.testing.assert_array_equal(example["weights"], record.weights)


def test_slices_decoders_and_other_splits(shards):
    records = make_records()
    assert [example["frame"] for example in load(shards, "train[4:7]")] == [record.frame for record in records[4:7]]
    (first, _) = load(shards, "test", decoders={"image": tfds.decode.SkipDecoding()})
    assert first["image"] == make_records({"eva": {"e0": 1}})[0].image


def test_travels_to_another_process(shards):
    source = pickle.loads(pickle.dumps(load(shards, "train")))
    assert source[3]["identity"] == make_records()[3].identity


def test_missing_shards_are_named(tmp_path):
    with pytest.raises(ShardError, match=r"manifest\.json is missing"):
        load(tmp_path, "train")


def test_no_tensorflow_is_imported(shards):
    code = f"""
import sys
import tensorflow_datasets as tfds
import sheap_jax.data.tfds_voxceleb2
source = tfds.data_source("tfds_voxceleb2", split="train", builder_kwargs=dict(shards={str(shards)!r}))
print(source[2]["image"].shape, "tensorflow" in sys.modules)
"""
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert output.stdout.strip() == f"({SIZE}, {SIZE}, 3) False", output.stderr
