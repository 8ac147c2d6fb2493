"""Absent accelerators to compile for: slices of TPUs, and one or several GPUs of a machine."""

import importlib.util
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sheap_jax.ahead_of_time.roofline import CHIPS

# What XLA wants to know of a GPU: name, compute capability, shared memory, multiprocessors, memory and its speed.
GPUS = {
    "a100": ("NVIDIA A100-SXM4-80GB", 8, 166912, 108, 85_000_000_000, 2_039_000_000_000),
    "h100": ("NVIDIA H100 80GB HBM3", 9, 232448, 132, 84_942_979_072, 3_352_320_000_000),
    "h200": ("NVIDIA H200", 9, 232448, 132, 150_000_000_000, 4_800_000_000_000),
}
# XLA chooses its own matrix products by timing them, which needs a device.
_GPU_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
CUDA_TOOLKITS = ("cu13", "cuda_nvcc")  # where the packages of CUDA 13 and 12 put the compiler
TPU_VARIABLES = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


class Target(NamedTuple):
    """Devices of one kind."""

    chip: str  # key of roofline.CHIPS
    devices: np.ndarray  # of jax.Device, any shape
    rasterizer: str  # its implementation there


def prepare(name: str) -> None:
    """Set the environment of the compiler for `name`. Call it before JAX compiles or asks for devices."""
    if _kind(name) not in GPUS:
        for variable, value in TPU_VARIABLES.items():
            os.environ.setdefault(variable, value)
        return
    flags = [os.environ.get("XLA_FLAGS", ""), _GPU_FLAGS]
    found = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in found.submodule_search_locations or []] if found else []
    for compiler in (folder / toolkit for folder in folders for toolkit in CUDA_TOOLKITS):
        if compiler.exists():
            flags.append(f"--xla_gpu_cuda_data_dir={compiler}")
            os.environ["PATH"] = f"{compiler / 'bin'}:{os.environ['PATH']}"
    os.environ["XLA_FLAGS"] = " ".join(flags)


def find_target(name: str) -> Target:
    """The devices of a TPU slice such as "v5p:4x8x8", or of a machine of GPUs such as "h200" or "h200:8".

    Raises ValueError for a chip that CHIPS lacks, a compiler that is not installed, or a malformed shape.
    """
    from jax.experimental import topologies

    kind = _kind(name)
    if kind not in CHIPS:
        raise ValueError(f"topology {name}: known chips are {', '.join(CHIPS)}")
    gpu, shape = kind in GPUS, name.partition(":")[2]
    if not re.fullmatch(r"([1-9]\d*)?" if gpu else r"[1-9]\d*(x[1-9]\d*)+", shape):
        wanted = f"{kind} or {kind}:8, the number of GPUs" if gpu else f"{kind}:4x4, the shape of the slice"
        raise ValueError(f"topology {name}: write it as in {wanted}")
    options = {"topology": f"1x1x{shape or 1}", "target_config": gpu_config(kind)} if gpu else {}
    try:
        found = topologies.get_topology_desc(platform="cuda" if gpu else "tpu", topology_name=name, **options)
    except (NotImplementedError, RuntimeError) as error:
        way_out = f'pip install "jax[{"cuda13" if gpu else "tpu"}]" brings it, no device is needed'
        raise ValueError(f"topology {name}: no compiler for it; {way_out} ({error})") from error
    return Target(kind, np.array(found.devices), "pallas_gpu" if gpu else "pallas_tpu")


def _kind(name: str) -> str:
    return name.partition(":")[0]


def gpu_config(kind: str) -> str:
    """The text form of XLA's GpuTargetConfigProto."""
    name, major, shared, cores, memory, bandwidth = GPUS[kind]
    return f"""gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: {cores} fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: {shared + 5120} shared_memory_per_block_optin: {shared}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 clock_rate_ghz: 1.41
  memory_bandwidth: {bandwidth} device_memory_size: {memory} l2_cache_size: 41943040
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {major} minor: 0 }}
}}
platform_name: "CUDA" device_description_str: "{name}"
dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 12 minor: 9 }}"""
