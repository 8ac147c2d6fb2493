"""Weight files of every format come out as the tensors that went in; damaged and malicious ones are refused."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sheap_jax.models.convert import __main__ as command
from sheap_jax.models.convert.readers import read_tensors
from sheap_jax.models.weights import flatten, load_weights, save_weights
from tests.malicious import Payload
from tests.models import published_names as published
from tests.refusal import refusal

RNG = np.random.default_rng(0)
SHAPES = published.vgg16((4,) * 13) | published.lpips_linear((4,) * 5)
TENSORS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """Length of the header, header, memory, as the format's description says."""
    header, memory = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        offsets = [len(memory), len(memory) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        memory += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + memory)
    return path


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_safetensors(tmp_path):
    assert_same(read_tensors(write_safetensors(tmp_path / "a.safetensors", TENSORS)), TENSORS)


@pytest.mark.parametrize("kept", [4, 60, 3000, -1])
def test_truncated_safetensors_are_refused(tmp_path, kept):
    path = write_safetensors(tmp_path / "a.safetensors", TENSORS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        read_tensors(path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_torch_files(tmp_path, new):
    torch = pytest.importorskip("torch", reason="needs torch to write its files (pip install -e '.[parity]')")
    state = {name: torch.from_numpy(array) for name, array in TENSORS.items()}
    state["half"] = torch.arange(6.0).reshape(2, 3).T.bfloat16()
    state["parameter"] = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    path = tmp_path / "a.pth"
    torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=new)
    expected = TENSORS | {"half": np.arange(6).reshape(2, 3).T, "parameter": np.ones(2)}
    found = read_tensors(path)
    assert_same(found, {f"state_dict.{name}": array for name, array in expected.items()})
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    for kept in (10, len(path.read_bytes()) - 100):
        (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match=r"cut\.pth cannot be read"):
            read_tensors(tmp_path / "cut.pth")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archives(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch to write TorchScript (pip install -e '.[parity]')")

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2))
            self.tokens = torch.nn.Parameter(torch.ones(1, 5, 3))
            self.register_buffer("count", torch.arange(3))
            self.sizes = [1, 2]

        def forward(self, x):
            return self.encoder(x + self.tokens.sum()) * self.sizes[1]

    network = Network()
    expected = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    for number, module in enumerate((torch.jit.script(network), torch.jit.trace(network, torch.ones(1, 3)))):
        module.save(str(tmp_path / f"{number}.pt"))
        found = read_tensors(tmp_path / f"{number}.pt")
        named = {name: array for name, array in found.items() if not name.startswith("constants.")}  # of the code
        assert_same(named, expected)


def test_malicious_files_are_refused_and_not_run(tmp_path):
    target = tmp_path / "executed"
    program = pickle.dumps({"state_dict": Payload(target)})
    (tmp_path / "old.pth").write_bytes(program)
    for name, members in {"zip.pth": ["a/data.pkl"], "script.pt": ["a/data.pkl", "a/constants.pkl"]}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.writestr(member, program)
    for name in ("old.pth", "zip.pth", "script.pt"):
        with pytest.raises(ValueError, match=rf"{name} was refused.*exec"):
            read_tensors(tmp_path / name)
    script = b"\x80\x02c__torch__.os\nsystem\n(X\x04\x00\x00\x00true\x85tR."  # a name of its own is never code here
    with zipfile.ZipFile(tmp_path / "own.pt", "w") as archive:
        archive.writestr("a/data.pkl", script)
        archive.writestr("a/constants.pkl", b"\x80\x02).")
    with pytest.raises(ValueError, match=r"own\.pt cannot be read"):
        read_tensors(tmp_path / "own.pt")
    assert not target.exists()
    pickle.loads(program)
    assert target.exists()  # the payload would have worked


def test_command_writes_what_training_reads(tmp_path, capsys, monkeypatch):
    linears = {name: array for name, array in TENSORS.items() if name.startswith("lin")}
    write_safetensors(tmp_path / "linear.safetensors", linears)
    write_safetensors(tmp_path / "vgg.safetensors", {n: a for n, a in TENSORS.items() if n not in linears})
    small = tuple((4,) * count for count in (2, 2, 3, 3, 3))
    convert = command.CONVERTERS["lpips"]
    monkeypatch.setitem(command.CONVERTERS, "lpips", lambda tensors: convert(tensors, stages=small))
    vgg = f"--vgg={tmp_path / 'vgg.safetensors'}"
    command.main(["lpips", str(tmp_path / "linear.safetensors"), str(tmp_path / "out.npz"), vgg])
    assert "unused: classifier.6.weight" in capsys.readouterr().out
    weights = load_weights(tmp_path / "out.npz", "lpips")
    assert len(flatten(weights.params)) == 31
    kernel = TENSORS["features.28.weight"]
    np.testing.assert_array_equal(weights.params["convolution_4_2"]["kernel"][1, 2, 3], kernel[:, 3, 1, 2])
    np.testing.assert_array_equal(weights.params["linear_3"], TENSORS["lin3.model.1.weight"][0, :, 0, 0])
    for arguments, words in (
        (["lpips", str(tmp_path / "linear.safetensors"), "o.npz"], r"missing: features\.0\.weight"),
        (["lpips", str(tmp_path / "linear.safetensors"), "o.npz"], "give torchvision's vgg16.pth as --vgg"),
        (["farl", str(tmp_path / "linear.safetensors"), "o.npz"], "this is no FaRL"),
        (["farl", str(tmp_path / "nowhere.pth"), "o.npz"], "github.com/FacePerceiver/FaRL, MIT"),
    ):
        assert words.replace("\\", "") in refusal(command, arguments, capsys)


def test_damaged_and_other_converted_files_are_named(tmp_path):
    path = tmp_path / "w.npz"
    weights = command.convert_lpips(TENSORS, stages=tuple((4,) * count for count in (2, 2, 3, 3, 3))).weights
    save_weights(path, weights)
    with pytest.raises(ValueError, match=r"w\.npz holds weights of lpips, wanted are those of farl or sheap"):
        load_weights(path, "farl", "sheap")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"w\.npz is damaged"):
        load_weights(path, "lpips")
    with pytest.raises(FileNotFoundError, match=r"sheap convert dinov2 IN"):
        load_weights(tmp_path / "no.npz", "dinov2")


IMPOSTORS = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer, not the file"),
    "page": (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "a web page, not the file"),
    "empty": (b"", "an empty file"),
    "packed": (b"\x1f\x8b\x08\x00", "a gzip archive: unpack it"),
    "text": (b"file,left,top\na.png,1,2\n", "a text file, which starts with 'file,left,top'"),
    "picture": (b"\x89PNG\r\n\x1a\n", "a picture"),
}


@pytest.mark.parametrize("name", IMPOSTORS)
def test_files_that_are_no_weights_are_called_what_they_are(name, tmp_path, capsys):
    content, words = IMPOSTORS[name]
    for file in ("w.pth", "w.safetensors", "w.npz"):
        (tmp_path / file).write_bytes(content)
    for file in ("w.pth", "w.safetensors"):
        error = refusal(command, ["farl", str(tmp_path / file), str(tmp_path / "out.npz")], capsys)
        assert error.startswith(f"error: {tmp_path / file} is {words}")
    with pytest.raises(ValueError, match=rf"w\.npz is {words}"):
        load_weights(tmp_path / "w.npz", "farl")
    assert not (tmp_path / "out.npz").exists()


def test_the_format_is_read_off_the_content(tmp_path):
    assert_same(read_tensors(write_safetensors(tmp_path / "named.pth", TENSORS)), TENSORS)
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme.txt", "not weights")
    with pytest.raises(ValueError, match=r"other\.pth is a zip archive of readme\.txt: unpack it"):
        read_tensors(tmp_path / "other.pth")


def test_a_failed_conversion_keeps_the_older_output(tmp_path, capsys):
    vit = {
        "visual.class_embedding": np.zeros(8, np.float32),
        "visual.conv1.weight": np.zeros((8, 3, 16, 16), np.float32),
    }
    source = write_safetensors(tmp_path / "vit.safetensors", vit)
    output = tmp_path / "out.npz"
    output.write_bytes(b"older")
    for arguments, words in (
        (["farl", str(source), str(output)], "vit.safetensors: this is no FaRL"),
        (["farl", str(source), str(tmp_path / "out.pth")], "choose a name that ends in .npz"),
        (["farl", str(source), str(tmp_path / "out")], "choose a name that ends in .npz"),
        (["farl", str(source), str(source / "out.npz")], "vit.safetensors is a file, name the .npz in a folder"),
        (["farl", str(source), str(tmp_path)], "is a folder: name the .npz to write"),
        (["farl", str(source), str(output), "--vgg", str(source)], "--vgg is for lpips"),
        (["farl", str(tmp_path), str(output)], "Is a directory"),
        (["lpips", str(source), str(output), "--vgg", str(tmp_path / "no.pth")], "no.pth does not exist. Fetch it"),
    ):
        assert words in refusal(command, arguments, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npz", "vit.safetensors"]
    assert output.read_bytes() == b"older"


def test_a_file_for_another_converter_says_which(tmp_path, capsys, monkeypatch):
    small = tuple((4,) * count for count in (2, 2, 3, 3, 3))
    convert = command.CONVERTERS["lpips"]
    monkeypatch.setitem(command.CONVERTERS, "lpips", lambda tensors: convert(tensors, stages=small))
    source = write_safetensors(tmp_path / "all.safetensors", TENSORS)
    error = refusal(command, ["dinov2", str(source), str(tmp_path / "o.npz")], capsys)
    assert error.startswith(f"error: {source}: this is no DINOv2")
    assert error.endswith("It can be converted as lpips")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_where_a_state_dict_is_expected(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="needs torch to write TorchScript (pip install -e '.[parity]')")
    torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)).save(str(tmp_path / "model.pt"))
    error = refusal(command, ["farl", str(tmp_path / "model.pt"), str(tmp_path / "o.npz")], capsys)
    assert "It is a TorchScript archive, as the official SHeaP release is" in error
