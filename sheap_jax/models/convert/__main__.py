"""`python -m sheap_jax.models.convert {farl,dinov2,lpips,sheap} IN OUT`: published weights into ours."""

import argparse
from pathlib import Path

from sheap_jax.models.convert.dinov2 import convert_dinov2
from sheap_jax.models.convert.farl import convert_farl
from sheap_jax.models.convert.lpips import convert_lpips
from sheap_jax.models.convert.mapping import Conversion
from sheap_jax.models.convert.readers import read_tensors
from sheap_jax.models.convert.sheap import convert_sheap
from sheap_jax.models.weights import flatten, save_weights

CONVERTERS = {"farl": convert_farl, "dinov2": convert_dinov2, "lpips": convert_lpips, "sheap": convert_sheap}
SOURCES = {  # what, from where, under which licence; see NOTICE
    "farl": "FaRL-Base-Patch16-LAIONFace20M-ep16.pth or -ep64.pth, github.com/FacePerceiver/FaRL, MIT",
    "dinov2": "dinov2_vitb14_pretrain.pth (or S, L, _reg4), github.com/facebookresearch/dinov2, Apache 2.0",
    "lpips": "vgg.pth, github.com/richzhang/PerceptualSimilarity, BSD, with torchvision's vgg16-397923af.pth, BSD",
    "sheap": "the TorchScript model of github.com/nlml/SHeaP, CC BY-NC",
}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sheap_jax.models.convert", description="Convert published weights to one .npz."
    )
    parser.add_argument("network", choices=CONVERTERS)
    parser.add_argument("input", type=Path, metavar="IN", help=".pth, .pt, .safetensors or a TorchScript archive")
    parser.add_argument("output", type=Path, metavar="OUT", help=".npz")
    parser.add_argument(
        "--vgg", type=Path, metavar="vgg16.pth", help="lpips: torchvision's VGG16, if IN has not got it"
    )
    options = parser.parse_args(arguments)
    try:
        tensors = read_tensors(options.input)
        if options.vgg is not None:
            tensors |= read_tensors(options.vgg)
        converted = CONVERTERS[options.network](tensors)
        save_weights(options.output, converted.weights)
    except FileNotFoundError as error:
        source = SOURCES[options.network]
        parser.exit(1, f"error: {error.filename} does not exist. Fetch it from its owner: {source}\n")
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {options.input}: {error}\n")
    print(report(converted))


def report(converted: Conversion) -> str:
    """What was converted and what was not, one name per line."""
    weights = converted.weights
    count = sum(array.size for array in flatten(weights.params).values())
    lines = [f"{weights.network}: {count:,} parameters, {weights.architecture}"]
    lines += [f"unused: {name}" for name in converted.unused]
    lines += [f"not in the file: {name}" for name in converted.unfilled]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
