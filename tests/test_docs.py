"""The documents say what is there: every link leads somewhere, every printed command, option and field exists."""

import dataclasses
import functools
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheap_jax.config import Config, Data, EmbeddedData

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("kernels/**/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
LINK = re.compile(r"\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"""["'](--[a-z][a-z0-9-]*)["']""")
# What is written after `sheap`, and what after `sheap convert`.
WORDS = {
    "prepare",
    "generate",
    "summary",
    "convert",
    "avatar",
    "reenact",
    "view",
    "export",
    "fit",
    "now",
    "compile-report",
}
SCRIPTS_AS_WORDS = {"train", "eval", "predict"}
CONVERTED = {"flame", "ict", "farl", "dinov2", "lpips", "sheap", "official"}
EVERY_FIELD = Config("any", data=Data(embedded=EmbeddedData()))
NOT_OURS = {"--runner", "--direct_num_workers", "--direct_running_mode", "--flink_master"}  # what follows is Beam's


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(document):
    dead = []
    for link in LINK.finditer(without_code(document.read_text())):
        path, anchor = link["path"], link["anchor"]
        if re.match(r"[a-z]+:", path):
            continue
        target = (document.parent / path).resolve() if path else document
        missing = not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target))
        dead += [link[0]] if missing else []
    assert not dead, f"{document.relative_to(ROOT)} has dead links"


def test_every_guide_is_reached_from_the_first_page():
    pages = {path.resolve() for path in ROOT.glob("docs/**/*.md")}
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        links = (page.parent / link["path"] for link in LINK.finditer(page.read_text()) if link["path"])
        new = {link.resolve() for link in links} & pages - reached
        reached |= new
        waiting += new
    assert pages == reached, "pages that no link leads to"


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_printed_commands_exist(document):
    wrong = [(line, fault) for line in commands(document) if (fault := fault_of(line))]
    assert not wrong, f"{document.relative_to(ROOT)}: {wrong}"


def test_a_wrong_command_is_found():
    """The checks above can fail."""
    assert fault_of("python predict.py photo.jpg --checkpoint runs/small --output out --cropped") is None
    wrong = {
        "python pedict.py": "pedict.py",
        "python -m sheap_jax.nothing": "sheap_jax.nothing",
        "python predict.py a.jpg --chekpoint runs/small": "--chekpoint",
        "python train.py --config configs/smal.py": "configs/smal.py",
        "python train.py --config.losses.landmark=1": "losses.landmark",
        "sheap prepar clip.mp4": "sheap prepar",
        "sheap convert flam": "sheap convert flam",
        "python benchmarks/overfit.py --vews 2": "--vews",
    }
    assert {line: fault_of(line) for line in wrong} == wrong


def test_readme_is_short_and_shows_what_the_continuous_integration_runs():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert '<!-- test command -->\n```bash\npip install -e ".[test]" && python -m pytest -n 2\n```\n' in text


def test_words_of_the_command_are_those_of_the_package():
    if importlib.util.find_spec("sheap_jax.commands") is None:
        pytest.skip("the package has no module of commands")
    from sheap_jax.commands.__main__ import COMMANDS

    assert set(COMMANDS) == WORDS | SCRIPTS_AS_WORDS


def test_the_rasteriser_script_runs(capsys):
    """docs/rasteriser.md prints what its comment says."""
    page = (ROOT / "docs/rasteriser.md").read_text()
    (script,) = re.findall(r"<!-- rasteriser script -->\n```python\n(.*?)```", page, re.DOTALL)
    exec(script, {})
    assert capsys.readouterr().out.strip() == script.rsplit("# ", 1)[1].strip()


def without_code(text: str) -> str:
    """A document without its fenced blocks and inline code: brackets there are no links."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(document: Path) -> set[str]:
    """Anchors of the headings as the forge makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def commands(document: Path) -> Iterator[str]:
    """Lines of shell blocks, and of indented ones, that run something of ours."""
    text = document.read_text()
    blocks = [body for language, body in FENCE.findall(text) if language == "bash"]
    blocks += re.findall(r"(?:^ {4}\S.*\n)+", FENCE.sub("", text), re.MULTILINE)
    inline = re.findall(r"`((?:python|sheap) [^`\n]+)`", FENCE.sub("", text))
    for line in [*"\n".join(blocks).replace("\\\n", " ").splitlines(), *inline]:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*|srun|nice", words[0]):
            words = words[1:]
        for start in [i for i, word in enumerate(words) if word in ("python", "sheap")][:1]:
            yield shlex.join(words[start:])


def fault_of(line: str) -> str | None:
    """The first part of a command that is not there; None if all is."""
    program, *words = shlex.split(line)
    if program == "sheap":
        word = words[0]
        if word == "WORD":  # stands for any
            return None
        if word not in WORDS | SCRIPTS_AS_WORDS or (word == "convert" and words[1] not in CONVERTED):
            return shlex.join(["sheap", *words[: 1 + (word == "convert")]])
        known = options_of(ROOT / "sheap_jax", *ROOT.glob("*.py"))
    elif words[0] == "-m":
        if not words[1].startswith(("sheap_jax", "tileraster")):
            return None
        if importlib.util.find_spec(words[1]) is None:
            return words[1]
        known = options_of(ROOT / "sheap_jax")
    elif words[0] == "-c":
        return None
    else:
        if not (ROOT / words[0]).is_file():
            return words[0]
        known = options_of(ROOT / words[0]) if "/" in words[0] else options_of(ROOT / "sheap_jax", ROOT / words[0])
    return next((fault for word in words[1:] if (fault := fault_of_word(word, known))), None)


def fault_of_word(word: str, known: set[str]) -> str | None:
    """What of a word is not there: its option, the field that it sets, or the configuration that it names."""
    if word.startswith("--config."):
        field = word.removeprefix("--config.").split("=")[0]
        return None if is_field(field.split("."), EVERY_FIELD) else field
    if word.startswith("configs/"):
        return next((part for part in word.split(":") if not (ROOT / part).is_file()), None)
    option = word.split("=")[0]
    ours = option.startswith("--") and option not in NOT_OURS
    return option if ours and option not in known | {"--help", "--config"} else None


def is_field(path: list[str], value: object) -> bool:
    """Whether a configuration has a field of this path, such as ["losses", "shape"]."""
    if not dataclasses.is_dataclass(value):
        return False
    names = {field.name for field in dataclasses.fields(value)}
    return path[0] in names and (len(path) == 1 or is_field(path[1:], getattr(value, path[0])))


@functools.cache
def options_of(*places: Path) -> set[str]:
    """Options that a script, or any file of a folder, defines. Of a folder that is any command's: parsers move."""
    files = [file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])]
    return {option for file in files for option in OPTION.findall(file.read_text())}
