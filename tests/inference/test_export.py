"""The exported artefact in a process that cannot import this package, by the script that the documentation shows."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from sheap_jax.morphable import forward
from tests.inference.tiny_avatar import tiny_predictor

DOCUMENT = Path(__file__).parents[2] / "docs/avatars.md"
BLOCKED = "import sys\nfor name in ('sheap_jax', 'tileraster', 'flax'):\n    sys.modules[name] = None\n"


def loading_script() -> str:
    found = re.search(r"<!-- loading script -->\n```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found, "docs/avatars.md lacks the loading script"
    return found[1]


def test_the_artefact_predicts_what_the_predictor_does_without_this_package(tmp_path):
    pytest.importorskip("flatbuffers", reason="jax.export writes its files with flatbuffers")
    from sheap_jax.inference.export import export_predictor

    predictor = tiny_predictor()
    (tmp_path / "head.stablehlo").write_bytes(export_predictor(predictor))
    image = np.random.default_rng(5).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "face.png"), image[..., ::-1])
    environment = {"JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED + loading_script()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = np.load(tmp_path / "face.npz")
    expected = predictor(image[None].astype(np.float32) / 255)
    for name, values in expected._asdict().items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
    assert np.abs(expected.expression).max() > 0.01, "all at rest: the comparison would say nothing"
    vertices = jax.jit(forward)(predictor.model, expected)
    np.testing.assert_allclose(found["vertices"], vertices, atol=1e-6)
    np.testing.assert_array_equal(found["faces"], predictor.model.faces)


def test_the_loading_script_has_ten_lines():
    assert len(loading_script().strip().splitlines()) <= 10


def test_what_cannot_be_written_is_said_before_anything_is_read(tmp_path, capsys):
    from sheap_jax.inference import export

    with pytest.raises(SystemExit) as stopped:
        export.main([str(tmp_path / "no-run"), str(tmp_path)])
    assert stopped.value.code == 2
    assert "is a directory: name the file to write" in capsys.readouterr().err
