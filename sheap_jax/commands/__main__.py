"""`sheap COMMAND ...`: the one command. Only the module of the command that is asked for is imported."""

import difflib
import importlib
import sys
from collections.abc import Sequence

from sheap_jax import __version__, command_line

# What is written after `sheap`: the module whose `main` it runs, and what it does.
COMMANDS = {
    "train": ("sheap_jax.commands.train", "train from videos, or on heads that are generated"),
    "eval": ("sheap_jax.commands.eval", "score a trained run on benchmarks, or compare two results"),
    "predict": ("sheap_jax.commands.predict", "photographs and videos to parameters, meshes, overlays"),
    "prepare": ("sheap_jax.data.prepare.__main__", "videos and photographs to shards to train on"),
    "generate": ("sheap_jax.data.embedded.__main__", "clips of people who do not exist, with their true heads"),
    "convert": ("sheap_jax.commands.convert", "FLAME, ICT-FaceKit and published weights to our files"),
    "fit": ("sheap_jax.commands.fit", "your own video: a model that knows the person, and an avatar"),
    "avatar": ("sheap_jax.inference.avatar", "one photograph to an avatar: .npz to animate, .ply splats"),
    "reenact": ("sheap_jax.inference.reenact", "an avatar with the motion of somebody else's video"),
    "view": ("sheap_jax.inference.viewer", "an avatar or a trained run in the browser"),
    "export": ("sheap_jax.inference.export", "a trained run as one file that needs only JAX, or its weights"),
    "now": ("sheap_jax.evaluation.now.__main__", "score meshes of any method on the NoW benchmark"),
    "summary": ("sheap_jax.ahead_of_time.network_summary", "parameters, operations and memory of each network"),
    "compile-report": (
        "sheap_jax.ahead_of_time.compile_report",
        "memory and time of a run on devices that are not here",
    ),
}
COMPILE_ONCE = (
    "train",
    "eval",
    "predict",
    "fit",
    "avatar",
    "reenact",
    "view",
)  # the programs of one run, again and again


def usage() -> str:
    """The page that `sheap --help` prints."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items())
    return f"""usage: sheap COMMAND ...   (sheap COMMAND --help says more)

Head geometry from one photograph, learned from 2D videos alone (SHeaP).

{rows}

  sheap train                            # a first run on generated heads, minutes on two CPU cores
  sheap eval --checkpoint runs/quickstart

  -h, --help     show this page
  -v, --verbose  after COMMAND: show what libraries log, and where an error came from
  --version      show the version
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that `arguments` (default: of this process) begin with."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help", "help"):
        print(usage(), end="")
        return
    if command in ("-V", "--version"):
        print(f"sheap-jax {__version__}")
        return
    if command in ("-v", "--verbose") and rest:
        command, rest = rest[0], [*rest[1:], command]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean `sheap {near[0]}`?" if near else f"there are: {', '.join(COMMANDS)}"
        sys.exit(f"sheap: there is no command {command!r}; {hint}")
    if command_line.is_verbose(rest):
        rest = [*(word for word in rest if word not in command_line.VERBOSE), "--verbose"]  # may stand anywhere
    else:
        command_line.silence_libraries()
    if command in COMPILE_ONCE:
        command_line.keep_compiled_programs()
    module = importlib.import_module(COMMANDS[command][0])
    command_line.run(module.main, rest, module.ERRORS)


if __name__ == "__main__":
    main()
