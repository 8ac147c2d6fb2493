"""Every script of benchmarks/ runs from its first line to its last, at toy size, and says what its table needs."""

import functools
import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_runs import write_config

from sheap_jax import config, config_files
from sheap_jax.commands.train import train
from sheap_jax.data.augment import _crop
from sheap_jax.evaluation.predictions import pose_heads
from sheap_jax.evaluation.report import BenchmarkReport, Comparison
from sheap_jax.models.estimator import HeadEstimator
from sheap_jax.morphable.embedded.head import embedded_head
from sheap_jax.morphable.model import mean_params
from sheap_jax.morphable.storage import save_model
from sheap_jax.types import Frame
from tests.training.conftest import ellipsoid

STAGES = {"project", "bin", "sort", "forward", "backward", "project_backward"}
SHELL = ("--surfels", 200, "--pixels", 24, "--batch", 1)


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    return write_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_run(tiny_config) -> Path:
    """A finished run on generated people."""
    return train(config_files.load_file(tiny_config))


@pytest.fixture
def head(tmp_path) -> Path:
    save_model(ellipsoid(), tmp_path / "ellipsoid.npz")
    return tmp_path / "ellipsoid.npz"


def test_ceilings(run):
    assert run("ceilings")["peak"]["bytes_per_s"] == 1e10


def test_device_peak_is_measured(load, monkeypatch):
    timing = load("timing")
    monkeypatch.setattr(timing, "PEAK_SIZES", dict.fromkeys(timing.PEAK_SIZES, (256, 8)))
    peak = timing.device_peak.__wrapped__()  # not kept: no other test shall get the rates of so little work
    assert peak.operations_per_s > 1e8
    assert peak.bytes_per_s > 1e7


def test_rasteriser_times_every_stage_and_keeps_known_scenes(run):
    found = run("rasteriser", *SHELL)
    (scene,) = found["scenes"]
    assert scene["implementation"] == "xla"
    assert scene["stages"].keys() == STAGES
    assert scene["ms_per_image"]["forward_and_backward"] > 0
    assert sum(stage["share"] for stage in scene["stages"].values()) == pytest.approx(1)
    assert run("rasteriser", *SHELL)["scenes"] == [scene]


def test_gpu_kernels_say_what_is_right_and_what_cannot_run(run, load, monkeypatch):
    monkeypatch.setattr(load("gpu_kernels").golden, "SMALL", ("front_on",))
    monkeypatch.setattr(load("gpu_kernels").golden, "HEAD", "edge_on")
    names = "xla", "pallas_gpu_triton"
    with pytest.raises(SystemExit, match="not right: pallas_gpu_triton"):
        run("gpu_kernels", *SHELL, "--runs", 1, "--implementations", *names)
    found = json.loads((Path(sys.argv[-1])).read_text())
    assert load("gpu_kernels").is_right(found["xla"], runs=1)
    assert set(found["xla"]["golden"]["errors"]) == {"front_on", "edge_on"}
    assert "needs a GPU" in found["pallas_gpu_triton"]["error"]


def test_gpu_kernels_tell_a_wrong_kernel(load):
    kernels = load("gpu_kernels")
    right = np.linspace(1, 2, 5)

    class Slopes:
        _fields = ("means",)

        def __init__(self, means):
            self.means = means

    found = kernels.differences((Slopes(right), {"color": 1.01 * right}), (Slopes(right), {"color": right}))
    assert found["wrong"] == ["color"]
    nothing = kernels.differences((Slopes(right), {"color": right * np.nan}), (Slopes(right), {"color": right}))
    assert nothing["wrong"] == ["color"]


def test_gpu_tuning(run):
    found = run("gpu_tuning", *SHELL, "--interpret")
    assert found["best"]["pallas_gpu_interpret"]["both_ms"] > 0


def test_gpu_gsplat_names_what_is_missing(run):
    if importlib.util.find_spec("gsplat") is not None:
        pytest.skip("gsplat is installed: the script would measure")
    with pytest.raises(SystemExit, match="gsplat"):
        run("gpu_gsplat")


def test_gpu_step_times_and_profiles(run, tiny_config, head):
    arguments = (
        "--config",
        tiny_config,
        "--head",
        head,
        "--batch",
        2,
        "--steps",
        1,
        "--rasterizers",
        "xla",
        "--without-graphs",
    )
    (program,) = run("gpu_step", *arguments)["programs"]
    assert program["applied"]
    assert program["rasterizer"] == "xla"
    assert program["stages"]["by_stage"]["surfels"]["ms"] > 0
    assert program["stages"]["by_stage"]["surfels"]["longest"]


def test_gpu_reproducible(load, tiny_config, head):
    options = Namespace(config=str(tiny_config), head=str(head), batch=2, steps=2)
    assert load("gpu_reproducible").train_twice(options)["bit_equal"]


def test_gpu_predict(run, load, monkeypatch):
    script = load("gpu_predict")
    monkeypatch.setattr(script, "torch_on_gpu", lambda: False)
    monkeypatch.setattr(script, "HeadEstimator", functools.partial(HeadEstimator, depth=1))
    found = run("gpu_predict", "--batch", 1, "--calls", 1)
    assert found["batches"][0]["ours"]["alone_ms"] > 0


def test_gpu_learning_learns_and_goes_on(run, tiny_config, tmp_path):
    arguments = "--config", tiny_config, "--work", tmp_path / "work", "--batch", 2, "--geometry-steps", 2
    first = run("gpu_learning", *arguments, "--steps", 3)
    assert [point["step"] for point in first["curve"]] == [2, 3]
    assert first["rendered_pairs_per_s"] > 0
    archive = tmp_path / "learning.tar"
    assert archive.stat().st_size > 1000
    again = run("gpu_learning", *arguments[:3], tmp_path / "other", *arguments[4:], "--steps", 4, "--resume", archive)
    assert again["steps"] == 4
    assert "landmarks_pairs_per_s" not in again


def test_gpu_learning_shifts_frames_as_the_input_pipeline_does(load):
    rng, size = np.random.default_rng(0), 32
    coarse = rng.integers(0, 256, (4, 4, 3)).astype(np.float32)
    image = np.asarray(jax.image.resize(coarse, (size, size, 3), "linear")).astype(np.uint8)
    landmarks = rng.uniform(0, size, (68, 2)).astype(np.float32)
    crop = np.array([0.04, 0.03, -0.02], np.float32)
    expected = image.copy()
    offset = _crop(expected, zoom=1.04, shift=crop[1:])
    frame = Frame(image / np.float32(255.0), landmarks, np.ones(68, np.float32))
    moved = load("gpu_learning").shift_frame(frame, crop)
    assert np.abs(np.asarray(moved.image) - expected / 255.0).max() < 0.02
    np.testing.assert_allclose(moved.landmarks, 1.04 * landmarks + offset, atol=1e-4)


def test_shape_gradients(run, load, tiny_run, capsys):
    load("shape_gradients")
    run("shape_gradients", tiny_run, "--people", 3, output=False)
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 3
    assert {"landmarks", "l1", "depth"} <= found["terms"].keys()


def test_overfit(run, load, tiny_config, tiny_run, monkeypatch, capsys):
    overfit = load("overfit")
    data = tiny_run.parent / "shards"
    monkeypatch.setattr(overfit, "ensure_test_people", lambda: data)
    settings = config_files.load_file(tiny_config).data.embedded
    monkeypatch.setitem(overfit.VERSIONS, overfit.CURRENT, settings)
    run("overfit", "--config", tiny_config, "--people", 2, "--steps", 8, output=False)
    found = json.loads(capsys.readouterr().out)["results"]
    assert found["pictures"]["seen_psnr_db"] > 0


def test_ablation_trains_and_scores(load, monkeypatch, tiny_config, tmp_path):
    ablation = load("ablation")
    scored = []

    def evaluate(run, *, data):
        """The evaluation has tests of its own."""
        scored.append(run)
        values = {quantity: [1.0, 2.0, 3.0] for quantity in ablation.SHOWN}
        rows = [{"quantity": name, "ours": 2.0, "baseline": "mean head", "baseline_value": 3.0} for name in values]
        scores = {"images": ["a", "b", "c"], "people": ["a", "b", "c"], "values": values}
        report = {"benchmark": "embedded", "version": "v1", "comparisons": rows, "per_image": [scores]}
        file = Path(run) / "evaluation/results.json"
        file.parent.mkdir()
        file.write_text(json.dumps({"reports": [report]}))

    monkeypatch.setattr(ablation, "evaluate", evaluate)
    arguments = ["--config", tiny_config, "--variants", "full", "--seeds", 1, "--output", tmp_path]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *map(str, arguments)])
    ablation.main()
    assert len(scored) == 1
    assert "| full |" in (tmp_path / "ablation.md").read_text()


def test_gpu_truth_trains_scores_and_draws(run, load, monkeypatch, tiny_config, tiny_run):
    gpu_truth = load("gpu_truth")
    scored = []

    def evaluate(run, *, data, output, step):
        """The evaluation has tests of its own."""
        scored.append((Path(run), step))
        rows = [Comparison(name, "mm", False, 1.0 + step, baseline, 8.0) for name, baseline in gpu_truth.SHOWN.items()]
        return [BenchmarkReport("embedded", "v1", {}, rows)]

    monkeypatch.setattr(gpu_truth, "evaluate", evaluate)
    # The training itself has tests of its own as well, and this run is finished.
    saved = {"3": 1.0}
    monkeypatch.setattr(gpu_truth, "train_for", lambda *_: {"seconds": 1.0, "saved": saved})
    found = run("gpu_truth", "--config", tiny_config, "--minutes", 1)
    (row,) = found["curve"]
    assert (row["step"], row["seconds"], scored) == (3, 1.0, [(tiny_run, 3)])
    assert {4.0, 0.5} <= set(row.values())
    assert Path(sys.argv[-1]).with_suffix(".png").stat().st_size > 1000


def test_loader(run, load, tiny_run):
    assert run("loader", "--shards", tiny_run.parent / "shards", "--rounds", 1)["share_of_bare_decoding"] > 0


def test_predict_throughput(run, load, monkeypatch):
    script = load("predict_throughput")
    tiny = config.Estimator(patch=16, width=16, depth=1, heads=2, head_width=16, feature_dim=16)
    monkeypatch.setattr(script, "Estimator", lambda style: tiny)
    assert run("predict_throughput", "--images", 2, "--rounds", 1)["pipeline_images_per_s"] > 0


def test_estimator_on_cpu(run, load, monkeypatch):
    pytest.importorskip("torch", reason="compares with PyTorch: pip install -e '.[parity]'")
    script = load("estimator_cpu")
    monkeypatch.setattr(script, "DEPTH", 1)
    monkeypatch.setattr(script, "BATCHES", (1,))
    monkeypatch.setattr(script, "HeadEstimator", functools.partial(HeadEstimator, depth=1))
    assert run("estimator_cpu", "--rounds", 1)["batch_1"]["relative_difference"] < 1e-4


def test_point_to_surface(run, load, monkeypatch, tmp_path, capsys):
    pytest.importorskip("rtree", reason="trimesh's search tree: pip install rtree")
    script = load("point_to_surface")
    head, triangles = script.head_on_scan(_landmarks7())
    np.savez(tmp_path / "scan.npz", vertices=head.vertices, faces=triangles, landmarks7=head.landmarks)
    for name, value in (("TURNS", 1), ("NOW_POINTS", 300), ("TRIMESH_POINTS", 50)):
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script.os, "sched_setaffinity", lambda *_: None)  # it would stay for all tests
    run("point_to_surface", "--scan", tmp_path / "scan.npz", "--points", 100, output=False)
    found = json.loads(capsys.readouterr().out)
    assert found["median_distance_mm"] < 0.01  # the scan is the mesh


def _landmarks7():
    model = embedded_head(detail="fine")
    (head,) = pose_heads(model, mean_params(model, 1)).meshes()
    return 1000 * head.landmarks


def test_gpu_compile_says_what_it_needs(run):
    if importlib.util.find_spec("triton") is not None:
        pytest.skip("triton is installed: the script would compile")
    with pytest.raises(SystemExit, match="needs triton"):
        run("gpu_compile", output=False)


@pytest.mark.slow
def test_faults(load, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["faults.py", "--kills", "2", "--dry-run"])
    load("faults").main()
    assert '"bit_equal_rounds": 1' in capsys.readouterr().out


def test_faults_writes_a_configuration_that_loads(load, monkeypatch, tmp_path):
    from sheap_jax.data import embedded

    faults = load("faults")
    monkeypatch.setattr(embedded, "generate", lambda directory, data: directory)
    assert config_files.load_file(faults.write_config(tmp_path)).steps == faults.STEPS
