"""The site of the documents builds without a warning, and a dead link is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytest.importorskip("material", reason='the site needs pip install -e ".[docs]"')
pytest.importorskip("mkdocstrings", reason='the site needs pip install -e ".[docs]"')


def build(configuration: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(configuration), "-d", str(site)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)


def test_the_site_builds_with_what_pages_link_to(tmp_path):
    built = build(ROOT / "mkdocs.yml", tmp_path / "site")
    assert built.returncode == 0, built.stderr
    results = (tmp_path / "site/experiments/ablation/index.html").read_text()
    assert 'src="../../repository/benchmarks/results/ablation_small.png"' in results
    assert (tmp_path / "site/repository/benchmarks/results/ablation_small.png").stat().st_size > 1000
    assert (tmp_path / "site/repository/kernels/tileraster/index.html").exists()
    assert "rasterize_surfels" in (tmp_path / "site/api/tileraster/index.html").read_text()


@pytest.mark.parametrize("link", ["missing.md", "../missing.py", "index.md#missing"])
def test_a_dead_link_fails(link, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "there.py").touch()
    settings = "site_name: test\nhooks: [HOOK]\nvalidation: {links: {anchors: warn}}\n"
    (tmp_path / "mkdocs.yml").write_text(settings.replace("HOOK", str(ROOT / "docs/site_links.py")))
    for found, alive in ((link, False), ("../there.py", True)):
        (docs / "index.md").write_text(f"# Page\n\n[link]({found}), [self](index.md#page)\n")
        built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
        assert (built.returncode == 0) == alive, built.stderr
