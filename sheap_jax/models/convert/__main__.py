"""Published weights into ours, without running code from their files.

    sheap convert farl FaRL-Base-Patch16-LAIONFace20M-ep64.pth assets/farl.npz
    sheap convert lpips vgg.pth assets/lpips.npz --vgg vgg16-397923af.pth
    sheap convert official model_expressive.pt runs/official --morphable assets/flame2020.npz

`official` makes a directory that `sheap predict` and `sheap eval` take as a checkpoint.
"""

import contextlib
import sys
from pathlib import Path

from sheap_jax import command_line
from sheap_jax.files.file_kinds import check_npz_output
from sheap_jax.files.regular import why_not_regular
from sheap_jax.files.torch_files import is_torchscript
from sheap_jax.models.convert.dinov2 import convert_dinov2
from sheap_jax.models.convert.farl import convert_farl
from sheap_jax.models.convert.lpips import convert_lpips
from sheap_jax.models.convert.mapping import Conversion, ConversionError, Tensors
from sheap_jax.models.convert.official import convert_official
from sheap_jax.models.convert.official import report as official_report
from sheap_jax.models.convert.readers import read_tensors
from sheap_jax.models.convert.sheap import convert_sheap
from sheap_jax.models.weights import flatten, save_weights

ERRORS = (OSError, ValueError)
CONVERTERS = {"farl": convert_farl, "dinov2": convert_dinov2, "lpips": convert_lpips, "sheap": convert_sheap}
SOURCES = {  # what, from where, under which licence; see NOTICE
    "farl": "FaRL-Base-Patch16-LAIONFace20M-ep16.pth or -ep64.pth, github.com/FacePerceiver/FaRL, MIT",
    "dinov2": "dinov2_vitb14_pretrain.pth (or S, L, _reg4), github.com/facebookresearch/dinov2, Apache 2.0",
    "lpips": "vgg.pth, github.com/richzhang/PerceptualSimilarity, BSD, with torchvision's vgg16-397923af.pth, BSD",
    "sheap": "model_paper.pt or model_expressive.pt, releases of github.com/nlml/SHeaP, CC BY-NC",
    "official": "model_paper.pt or model_expressive.pt, releases of github.com/nlml/SHeaP, CC BY-NC",
}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = command_line.make_parser("convert", __doc__)
    parser.add_argument("network", choices=[*CONVERTERS, "official"], help="whose weights they are")
    parser.add_argument("input", type=Path, metavar="IN", help=".pth, .pt, .safetensors or a TorchScript archive")
    parser.add_argument("output", type=Path, metavar="OUT", help=".npz; official: a directory")
    parser.add_argument(
        "--vgg", type=Path, metavar="vgg16.pth", help="lpips: torchvision's VGG16, if IN has not got it"
    )
    parser.add_argument("--morphable", type=Path, metavar="flame2020.npz", help="official: the converted FLAME")
    options = parser.parse_args(arguments)
    if options.vgg is not None and options.network != "lpips":
        parser.error(f"--vgg is for lpips, {options.network} needs one file")
    if (options.morphable is not None) != (options.network == "official"):
        parser.error("--morphable FLAME.npz is for official, which needs it: `sheap convert flame` makes it")
    if options.network == "official":
        _check_sources("official", options.input)
        print(official_report(convert_official(options.input, options.output, morphable=options.morphable)))
        print(f"{options.output}: sheap predict --checkpoint {options.output} takes it, without torch")
        return
    print(report(convert(options.network, options.input, options.output, vgg=options.vgg)))


def convert(network: str, source: Path, output: Path, *, vgg: Path | None) -> Conversion:
    """Read, convert and write; an older output stays until the new one is complete.

    Raises:
      OSError: a file is not there, or cannot be read or written.
      ValueError: the output is no .npz, or a file is damaged or of another network; the message names it.
    """
    check_npz_output(output)
    _check_sources(network, source, vgg)
    tensors = read_tensors(source)
    if vgg is not None:
        tensors |= read_tensors(vgg)
    try:
        converted = CONVERTERS[network](tensors)
    except ConversionError as error:
        raise ConversionError(f"{source}: {error}{_hint(network, source, tensors)}") from error
    save_weights(output, converted.weights)
    return converted


def _check_sources(network: str, *paths: Path | None) -> None:
    """FileNotFoundError, with where they come from, if files are not there; ValueError for what is no file."""
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path} does not exist. Fetch it from its owner: {SOURCES[network]}")
        if path is not None and not path.is_dir() and (reason := why_not_regular(path)) is not None:
            raise ValueError(f"{path} {reason}")


def _hint(network: str, source: Path, tensors: Tensors) -> str:
    """What else is needed, or which converter a file is for, if it is not the one that was asked for."""
    has_vgg = any("features.0." in name or "slice1.0." in name for name in tensors)
    if network == "lpips" and not has_vgg and any(name.endswith("lin0.model.1.weight") for name in tensors):
        return ". It holds the linear layers: give torchvision's vgg16.pth as --vgg"
    for other, converter in CONVERTERS.items():
        with contextlib.suppress(ConversionError):
            if other != network and converter(tensors):
                return f". It can be converted as {other}"
    if network != "sheap" and is_torchscript(source):
        return ". It is a TorchScript archive, as the official SHeaP release is: convert that as official, or as sheap"
    return ""


def report(converted: Conversion) -> str:
    """What was converted and what was not, one name per line."""
    weights = converted.weights
    count = sum(array.size for array in flatten(weights.params).values())
    lines = [f"{weights.network}: {count:,} parameters, {weights.architecture}"]
    lines += [f"unused: {name}" for name in converted.unused]
    lines += [f"not in the file: {name}" for name in converted.unfilled]
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
