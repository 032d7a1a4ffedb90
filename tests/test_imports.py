"""Imports run one way; read from the source by ``ast``, without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    "types",
    "models",
    "losses",
    "metrics",
    "weighting",
    "balancing",
    "tasks",
    "data",
    "config",
    "prediction",
    "zoo",
    "engine",
    "deploy",
    "analysis",
    "cli",
]
"""Rooms from the ground up; before them stand the helpers, ``_*.py``. A room imports only from
those before it.
"""


class Import:
    """One import of a part of the package.

    Attributes:
        importer: name of the module that imports.
        imported: name of the module that is imported.
        inside: whether it stands in a function.
    """

    def __init__(self, importer: str, imported: str, inside: bool) -> None:
        self.importer = importer
        self.imported = imported
        self.inside = inside

    def __repr__(self) -> str:
        return f"{self.importer} -> {self.imported}"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Name -> file of every module of the package."""
    found = {}
    for path in sorted((root / "visionmtl").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


def imports(root: Path = ROOT) -> list[Import]:
    """Every import of a part of the package, those under TYPE_CHECKING too.

    The lazy public names of ``visionmtl`` itself are none: it is the way in, not a room.
    """
    known = modules(root)
    found = []
    for name, path in known.items():
        if name == "visionmtl":
            continue
        tree = ast.parse(path.read_text())
        for node, inside in walk(tree):
            found += [Import(name, imported, inside) for imported in targets(node, known)]
    return found


def walk(tree: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it stands in a function."""
    for node in ast.iter_child_nodes(tree):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield node, inside
        yield from walk(node, inside or function)


def targets(node: ast.AST, known: dict[str, Path]) -> list[str]:
    """Modules of the package that a node imports; ``from visionmtl import __version__`` is none."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.split(".")[0] == "visionmtl"]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, "imports are absolute"
    if node.module is None or node.module.split(".")[0] != "visionmtl":
        return []
    names = [alias.name for alias in node.names]
    if node.module == "visionmtl" and names == ["__version__"]:
        return []
    found = []
    for name in names:
        submodule = f"{node.module}.{name}"
        if submodule in known and known[submodule] != known[node.module]:
            found.append(submodule)
        else:
            found.append(node.module)
    return list(dict.fromkeys(found))


def rank(module: str) -> int:
    """Place of a module's room in the order; -1 for helpers."""
    parts = module.split(".")
    if len(parts) > 1 and parts[1].startswith("_") and parts[1] != "__main__":
        return -1
    if parts in (["visionmtl"], ["visionmtl", "__main__"]):
        return len(ORDER)
    return ORDER.index(parts[1])


def backward(found: list[Import]) -> list[Import]:
    return [item for item in found if rank(item.imported) > rank(item.importer)]


def within_functions(found: list[Import]) -> set[tuple[str, str]]:
    return {(item.importer, item.imported) for item in found if item.inside}


def circle(found: list[Import]) -> list[str]:
    """Modules that import each other in a circle, or none; one within a function is a fault by
    itself.
    """
    graph: dict[str, set[str]] = {}
    for item in found:
        if item.inside:
            continue
        graph.setdefault(item.importer, set()).add(item.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        names: list[str] = error.args[1]
        return names
    return []


def test_every_room_has_a_place_in_the_order() -> None:
    for name in modules():
        rank(name)


def test_no_import_runs_back() -> None:
    assert backward(imports()) == []


def test_no_circle() -> None:
    assert circle(imports()) == []


def test_imports_stand_at_the_top() -> None:
    assert within_functions(imports()) == set()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("from visionmtl.engine.run import train", "back"),
        ("import visionmtl.engine.run", "back"),
        ("from visionmtl.engine import run", "back"),
        ("from visionmtl import engine", "back"),
        ("if TYPE_CHECKING:\n    from visionmtl.engine.run import train", "back"),
        ("from visionmtl import create_model", "back"),
        ("def f():\n    from visionmtl.types import Batch", "inside"),
        ("class A:\n    def f(self):\n        import visionmtl.types", "inside"),
        ("async def f():\n    from visionmtl.types import Batch", "inside"),
        ("from visionmtl.data.b import x", "circle"),
        ("from visionmtl.types import Batch", ""),
        ("from visionmtl._files import write_atomic", ""),
        ("from visionmtl import __version__", ""),
        ("def f():\n    import scipy", ""),
    ],
)
def test_the_faults_are_seen(tmp_path: Path, text: str, fault: str) -> None:
    for module, content in {
        "data/a": text,
        "data/b": "from visionmtl.data.a import y",
        "engine/run": "",
        "engine/__init__": "",
        "types": "",
        "_files": "",
        "__init__": "",
    }.items():
        path = tmp_path / "visionmtl" / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    found = imports(tmp_path)
    seen = {
        "back": bool(backward(found)),
        "inside": bool(within_functions(found)),
        "circle": bool(circle(found)),
    }
    assert [name for name, is_there in seen.items() if is_there] == [fault][: bool(fault)]
