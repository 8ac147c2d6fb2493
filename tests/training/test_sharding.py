"""Devices do not matter: train.py on one device, on two processes of two and on eight gives the same numbers."""

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from sheap_jax import config_files
from sheap_jax.commands import train
from sheap_jax.config import Devices
from sheap_jax.inference.predictor import Predictor
from sheap_jax.training.metrics import read_metrics
from sheap_jax.training.speed import without_speed

ROOT = Path(__file__).parents[2]
# How long devices of one process wait for each other in a collective: on a busy machine one of them may not get a core
# for longer than XLA's 40 seconds, after which it ends the process.
PATIENCE = " ".join(
    f"--xla_cpu_collective_{name}_seconds=600"
    for name in ("call_warn_stuck_timeout", "call_terminate_timeout", "timeout")
)


def start(config, directory: Path, *, devices: int, process: int = 0, processes: int = 1, port: int = 0):
    """`python train.py` with this configuration on so many CPU devices, as one of so many processes."""
    config_files.save_json(config, directory / "config_file.json")
    (directory / "config_file.py").write_text(
        "from sheap_jax.config_files import load_json\n"
        f"def get_config():\n    return load_json({str(directory / 'config_file.json')!r})\n"
    )
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {PATIENCE}",
    }
    if processes > 1:
        environment |= {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(process),
        }
    arguments = [sys.executable, str(ROOT / "train.py"), "--config", str(directory / "config_file.py")]
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)


def run_processes(config, directory: Path, *, devices: int, processes: int = 1) -> None:
    """Run to the end. Gloo gives processes 30 seconds to meet, little on a busy machine: the same command goes on."""
    for _ in range(3):
        port = free_port()
        started = [
            start(config, directory, devices=devices, process=index, processes=processes, port=port)
            for index in range(processes)
        ]
        errors = [process.communicate(timeout=1200)[1] for process in started]
        if not any("Gloo context initialization failed" in text for text in errors):
            break
    for process, text in zip(started, errors, strict=True):
        assert process.returncode == 0, text[-3000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def in_run(config, directory: Path, **changes):
    log = dataclasses.replace(config.log, directory=str(directory))
    return dataclasses.replace(config, log=log, **changes)


def assert_same_parameters(run: Path, expected: Path, *, rate: float) -> None:
    """All but a few equal: Adam divides gradients by their size, and so turns rounding into steps where they vanish."""
    ours, theirs = (jax.tree.leaves(Predictor.from_checkpoint(path).parts().learned.params) for path in (run, expected))
    difference = np.concatenate([np.abs(np.ravel(a - b)) for a, b in zip(ours, theirs, strict=True)])
    assert np.mean(difference < 0.01 * rate) > 0.99


@pytest.mark.slow
def test_processes_and_devices_give_the_numbers_of_one_device(tiny_config, tmp_path):
    """Three steps on landmarks with two processes, two rendered ones on eight devices from their checkpoint."""
    config = dataclasses.replace(
        tiny_config,
        steps=5,
        geometry_steps=3,
        batch_size=8,
        rasterizer="reference",  # compiles in a fraction of the time
        # The learning rate stays constant, so that a run of three steps is the beginning of one of five.
        optimizer=dataclasses.replace(tiny_config.optimizer, flat_moments=False, final_share=1.0),
        prototypes=dataclasses.replace(tiny_config.prototypes, densify_every=4),
        log=dataclasses.replace(tiny_config.log, validate_every=3),
        losses=dataclasses.replace(tiny_config.losses, mean_share=0.5),  # the mean is that of the whole batch
    )
    run = tmp_path / "run"
    # A process that gets no core for a while is not dead.
    four_devices = in_run(config, run, steps=3, devices=Devices(heartbeat_seconds=600))
    run_processes(four_devices, tmp_path, devices=2, processes=2)
    run_processes(in_run(config, run, devices=Devices(fsdp=2)), tmp_path, devices=8)

    alone = train.train(in_run(config, tmp_path / "alone"))
    ours, theirs = (list(map(without_speed, read_metrics(path / "metrics.jsonl"))) for path in (run, alone))
    assert [row["step"] for row in ours] == [1, 2, 3, 4, 5]
    for own, other in zip(ours, theirs, strict=True):
        assert own.keys() == other.keys()
        np.testing.assert_allclose(list(own.values()), list(other.values()), rtol=2e-5, atol=1e-6)
    assert_same_parameters(run, alone, rate=config.optimizer.learning_rate)
