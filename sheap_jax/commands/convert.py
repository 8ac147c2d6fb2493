"""Files of others into ours, without running code from them; none is downloaded for you (NOTICE).

    sheap convert flame --model generic_model.pkl --landmarks landmark_embedding.npy \\
        --template head_template.obj assets/flame2020.npz
    sheap convert ict ICT-FaceKit assets/ict.npz
    sheap convert farl FaRL-Base-Patch16-LAIONFace20M-ep64.pth assets/farl.npz
    sheap convert official model_expressive.pt runs/official --morphable assets/flame2020.npz

`sheap convert WHAT --help` lists the options of each.
"""

import importlib

from sheap_jax import command_line

ERRORS = (OSError, ValueError)
HEADS = {"flame": "sheap_jax.morphable.flame", "ict": "sheap_jax.morphable.ict"}
WEIGHTS = ("farl", "dinov2", "lpips", "sheap", "official")


def main(arguments: list[str]) -> None:
    """`flame` and `ict` go to the converters of head models, the others to that of networks."""
    what = arguments[0] if arguments else "--help"
    if what in HEADS:
        importlib.import_module(HEADS[what]).main(arguments[1:])
    elif what in WEIGHTS:
        importlib.import_module("sheap_jax.models.convert.__main__").main(arguments)
    else:
        parser = command_line.make_parser("convert", __doc__)
        parser.add_argument("what", metavar="WHAT", choices=[*HEADS, *WEIGHTS], help=", ".join([*HEADS, *WEIGHTS]))
        parser.add_argument("files", metavar="...", nargs="*", help="what `sheap convert WHAT --help` says")
        parser.parse_args([what])
