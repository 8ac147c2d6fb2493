"""A hook of mkdocs: links out of docs/ work on the site as they do on the forge.

Pages link to files of the repository by relative paths, such as ../benchmarks/results/clips.json. The site holds
docs/ only. So every such file is copied below `repository/`, and the link is turned to the copy. A Markdown file
becomes a page. A link to a file that is not there stays as it is, and `mkdocs build --strict` fails at it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

COPIES = "repository"
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?=[)#])")
PLAIN = ("", ".py")  # suffixes that a browser would not show


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what pages link to outside docs/, and what those link to in turn."""
    root, docs = Path(config.config_file_path).parent, Path(config.docs_dir)
    waiting = [docs / file.src_uri for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for link in LINK.finditer(page.read_text()):
            target = (page.parent / link["path"]).resolve()
            outside = target.is_file() and target.is_relative_to(root) and not target.is_relative_to(docs)
            uri = _copy(target, root) if outside else ""
            if not outside or files.get_file_from_path(uri) is not None:
                continue
            file = File.generated(config, uri, abs_src_path=str(target), inclusion=InclusionLevel.NOT_IN_NAV)
            files.append(file)
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links of a page to the copies."""
    root, docs = Path(config.config_file_path).parent, Path(config.docs_dir)
    source = Path(page.file.abs_src_path or "")

    def turned(link: re.Match[str]) -> str:
        target = (source.parent / link["path"]).resolve()
        if not target.is_file() or not target.is_relative_to(root):
            return link["path"]
        inside = target.is_relative_to(docs)
        uri = target.relative_to(docs).as_posix() if inside else _copy(target, root)
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(turned, markdown)


def _copy(target: Path, root: Path) -> str:
    """Where the copy of a file of the repository lies on the site."""
    uri = f"{COPIES}/{target.relative_to(root).as_posix()}"
    return f"{uri}.txt" if target.suffix in PLAIN else uri
