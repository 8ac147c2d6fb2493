"""A name with a scheme never becomes a local folder."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sheap_jax.command_line import make_parser
from sheap_jax.config import Config, Data, Log, Weights
from sheap_jax.config_checks import check_config
from sheap_jax.config_files import ConfigError
from sheap_jax.files import urls
from sheap_jax.files.urls import PlaceError, check_local, in_bucket, open_path, scheme_of
from sheap_jax.files.whole_file import whole_file

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """To see what appears in it."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["runs/a", "/tmp/a", "webcam:0", "a:b", "C:/runs", "small:base", "."])
def test_local_names_are_pathlib_paths(name):
    assert type(open_path(name)) is type(Path(name))
    assert not in_bucket(open_path(name))
    check_local(name, "--output")


def test_schemes_are_found_also_where_pathlib_has_taken_a_slash():
    assert [scheme_of(name) for name in ("gs://b/a", Path("gs://b/a"), "s3://b", "http://x", "GSX://b", "GS:/b")] == [
        "gs", "gs", "s3", "http", "gsx", "gs",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["GS://b/x", "Gs:/b/x", Path("GS://b/x")])
def test_schemes_may_be_in_capitals(name):
    if importlib.util.find_spec("gcsfs") is None:
        pytest.skip("needs the extra gcs")
    assert str(open_path(name)) == "gs://b/x"


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(urls.importlib.util, "find_spec", lambda name: None if name == "gcsfs" else real(name))
    with pytest.raises(PlaceError, match=r'^gs://b/run: .*: pip install "sheap-jax\[gcs\]"$'):
        open_path("gs://b/run")
    with pytest.raises(PlaceError), whole_file("gs://b/run/config.json"):
        pass
    assert os.listdir() == []


@pytest.mark.parametrize(("name", "words"), [("hdfs://b/run", "hdfs:// is not known here"), ("gs://", "no bucket")])
def test_other_urls_are_one_line(name, words):
    with pytest.raises(PlaceError, match=words) as caught:
        open_path(name)
    assert "\n" not in str(caught.value)
    assert os.listdir() == []


def test_options_for_local_paths_refuse_urls():
    parser = make_parser("any", None, urls=("checkpoint",))
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--checkpoint")
    parser.add_argument("--out-folder", type=Path)
    assert parser.parse_args(["--checkpoint", "gs://b/run", "a.png"]).checkpoint == "gs://b/run"
    for arguments, name in ((["gs://b/a.png"], "inputs"), (["--out-folder", "s3://b/out"], "out-folder")):
        with pytest.raises(PlaceError, match=rf"^{name} is .*only local files"):
            parser.parse_args(arguments)


def test_fields_for_local_paths_refuse_urls():
    shards = Data(directory="gs://b/shards", embedded=None)
    config = Config("a", data=shards, weights=Weights(dinov2="s3://b/d.npz"), log=Log(directory="gs://b/{name}"))
    with pytest.raises(ConfigError) as caught:
        check_config(config)
    told = str(caught.value)
    assert "config.data.directory is gs://b/shards" in told
    assert "config.weights.dinov2 is s3://b/d.npz" in told
    assert "log.directory" not in told


def test_help_loads_nothing_for_buckets():
    code = (
        "import sys; from sheap_jax.commands.__main__ import usage; usage(); import sheap_jax.files.whole_file; "
        "print([name for name in ('etils', 'fsspec', 'gcsfs', 'aiohttp') if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == "[]"
