"""The names and files that the pages speak of exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from visionmtl.tasks import KINDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ENTRY_POINTS = "visionmtl.plugins"  # the group of the plug-ins, which is no module
NAME = re.compile(r"(?<![\w/.-])visionmtl(?:\.[A-Za-z_]\w*)+")
FOLDERS = "visionmtl|configs|tools|docs|examples|assets|benchmarks|tests"
PATHS = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w/.-]*\w")
PLACES = {"visionmtl/zoo/models/NAME", "tools/normal_eval_experiment.py"}  # to fill in; another's
IMPORT = re.compile(r"^from (visionmtl[\w.]*) import \(?([\w, \n]+)\)?$", re.MULTILINE)


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or what is reached from one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_dotted_names_exist(page: Path) -> None:
    names = set(NAME.findall(page.read_text("utf-8"))) - {ENTRY_POINTS}
    assert [name for name in sorted(names) if not exists(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_imported_names_exist(page: Path) -> None:
    imported = []
    for module, names in IMPORT.findall(page.read_text("utf-8")):
        imported += [f"{module}.{name}" for name in re.findall(r"\w+", names)]
    assert [name for name in imported if not exists(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page: Path) -> None:
    """Of a pattern or a place to fill in, what stands before its first special character."""
    paths = sorted(set(PATHS.findall(page.read_text("utf-8"))) - PLACES)
    assert [path for path in paths if not list(ROOT.glob(f"{path}*"))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link


def test_anchors_exist() -> None:
    """Of links to a heading of a page."""
    missing = []
    for page in PAGES:
        for link, anchor in re.findall(r"\]\(([^)#:\s]*)#([\w-]+)\)", page.read_text("utf-8")):
            target = (page.parent / link) if link else page
            if anchor not in headings(target):
                missing.append(f"{page.name}: {link}#{anchor}")
    assert missing == []


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


def test_the_metrics_of_delta_m_are_listed() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    for name, kind in KINDS.items():
        if not kind.__module__.startswith("visionmtl."):
            continue  # of a test
        keys = ", ".join(f"`{key}`" for key in kind.metric.delta_m_keys)
        assert f"| {name} | `{kind.metric.headline}` | {keys} |" in page
