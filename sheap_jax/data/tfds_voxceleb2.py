"""Our shards as a data set of tensorflow-datasets, for other pipelines: the same files, no copy, no TensorFlow.

    import tensorflow_datasets as tfds
    import sheap_jax.data.tfds_voxceleb2  # makes the name known
    frames = tfds.data_source("tfds_voxceleb2", split="train", builder_kwargs={"shards": "assets/voxceleb2"})
    frames[0]["image"]  # uint8 [h, w, 3]

The name is that of VoxCeleb2, one of the collections whose layout `sheap_jax.data.prepare` reads. Any directory that it
wrote will do. Split slices such as "train[:10%]" and decoders work as with any data set;
`{"image": tfds.decode.SkipDecoding()}` leaves the JPEG bytes.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.file_adapters import FileFormat
from tensorflow_datasets.core.naming import ShardedFileTemplate
from tensorflow_datasets.core.splits import SplitDict, SplitInfo

from sheap_jax.data.codec import FORMAT_VERSION, NUM_LANDMARKS, decode_record
from sheap_jax.data.manifest import read_manifest
from sheap_jax.data.records import Split


class _RecordFeatures(tfds.features.FeaturesDict):
    """Reads the message of `sheap_jax.data.codec` where tensorflow-datasets expects a `tf.train.Example`."""

    def deserialize_example_np(self, serialized_example: Any, *, decoders: Any = None) -> Any:
        return self.decode_example_np(decode_record(serialized_example)._asdict(), decoders=decoders)


class TfdsVoxceleb2(tfds.core.DatasetBuilder):
    """Frames of prepared shards, one example per frame; the frames of a clip follow each other."""

    VERSION = tfds.core.Version(f"{FORMAT_VERSION}.0.0")

    def __init__(self, *, shards: str | os.PathLike[str], **options: Any) -> None:
        """Raises ShardError if the directory `shards` has no manifest, or a file is missing or truncated."""
        super().__init__(**options)
        self._original_state |= {"shards": os.fspath(shards)}  # of the base class: what a pickled builder is made of
        directory = Path(shards)
        self.info.set_file_format(FileFormat.ARRAY_RECORD)
        opened = [Split(directory, name) for name in read_manifest(directory)["splits"]]
        self.info.set_splits(SplitDict([self._split_info(split) for split in opened]))

    def _split_info(self, split: Split) -> SplitInfo:
        template = ShardedFileTemplate(
            data_dir=epath.Path(split.directory),
            template="{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}",
            dataset_name=self.name,
            split=split.name,
            filetype_suffix=FileFormat.ARRAY_RECORD.file_suffix,
        )
        shards = split.manifest["shards"]
        return SplitInfo(
            name=split.name,
            shard_lengths=[shard["records"] for shard in shards],
            num_bytes=sum(shard["bytes"] for shard in shards),
            filename_template=template,
        )

    def _info(self) -> tfds.core.DatasetInfo:
        features = _RecordFeatures(
            {
                "identity": tfds.features.Text(),
                "clip": tfds.features.Text(),
                "frame": tfds.features.Scalar(np.int32),
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                "landmarks": tfds.features.Tensor(shape=(NUM_LANDMARKS, 2), dtype=np.float32),
                "weights": tfds.features.Tensor(shape=(NUM_LANDMARKS,), dtype=np.float32),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Face crops of videos with 68 detected landmarks, prepared by sheap_jax.data.prepare.",
            features=features,
        )

    def download_and_prepare(self, **options: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Nothing to do: `sheap prepare` has made the shards."""

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        raise NotImplementedError("prepare the shards with `sheap prepare`")

    def _as_dataset(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError("these shards hold no tf.train.Example: use tfds.data_source instead of tfds.load")
