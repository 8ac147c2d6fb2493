"""How torch's pickles hold tensors: strided views of storages, whose memory lies beside the pickle."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from sheap_jax.files.pickle_standins import check_shape
from sheap_jax.files.resolving import Resolver, StandIn


class StorageType(StandIn):
    """torch.FloatStorage and the like: which numbers a storage holds."""

    dtype: ClassVar[np.dtype]


STORAGES: dict[str, type[StorageType]] = {
    name: type(name, (StorageType,), {"dtype": dtype})
    for name, dtype in {
        "FloatStorage": np.dtype("<f4"),
        "DoubleStorage": np.dtype("<f8"),
        "HalfStorage": np.dtype("<f2"),
        "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
        "LongStorage": np.dtype("<i8"),
        "IntStorage": np.dtype("<i4"),
        "ShortStorage": np.dtype("<i2"),
        "CharStorage": np.dtype("i1"),
        "ByteStorage": np.dtype("u1"),
        "BoolStorage": np.dtype("?"),
    }.items()
}


class Storage(StandIn):
    """The flat memory of tensors, read when the first of them is made."""

    def __init__(self, kind: type[StorageType], key: str, read: Callable[[str], bytes]) -> None:
        self.dtype, self._key, self._read = kind.dtype, key, read

    def make(self, resolver: Resolver) -> Shaped[np.ndarray, "n"]:
        data = self._read(self._key)
        resolver.spend(len(data))
        return np.frombuffer(data, self.dtype)


class Tensor(StandIn):
    """torch._utils._rebuild_tensor_v2. The bounds are checked, since size and strides come from the file."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        self.storage, self.offset = storage, offset
        self.size, self.stride = check_shape(size), check_shape(stride)

    def make(self, resolver: Resolver) -> Shaped[np.ndarray, "..."]:
        data = resolver(self.storage)
        if not isinstance(data, np.ndarray) or data.ndim != 1 or data.dtype.hasobject:
            raise ValueError("a torch tensor is of no storage")
        (offset,) = check_shape((self.offset,))
        last = offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if math.prod(self.size) == 0:
            return np.zeros(self.size, data.dtype)
        if last >= len(data):
            raise ValueError("a torch tensor reaches beyond its storage")
        resolver.spend(math.prod(self.size) * data.itemsize)
        steps = [step * data.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(data[offset:], self.size, steps).copy()


class Parameter(StandIn):
    """torch._utils._rebuild_parameter: a tensor that asks for gradients."""

    def __init__(self, tensor: Any, *_: Any) -> None:
        self.tensor = tensor

    def make(self, resolver: Resolver) -> Any:
        return resolver(self.tensor)
