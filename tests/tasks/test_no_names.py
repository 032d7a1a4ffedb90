"""Only the kinds themselves know what a kind is: no other module compares one with a name.

Read from the source by ``ast``; what depends on a kind is asked of its object.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from visionmtl.tasks import KINDS

ROOT = Path(__file__).parents[2]
FOLDERS = ["visionmtl", "tools", "benchmarks"]


def is_name(node: ast.expr) -> bool:
    """Whether an expression is the name of a kind for sure: ``kind.name``, ``spec.kind.name``."""
    return isinstance(node, ast.Attribute) and node.attr == "name" and is_kind(node.value)


def is_kind(node: ast.expr) -> bool:
    """Whether an expression is called ``kind``, which may be a kind or its name."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value == "kind"
    if isinstance(node, ast.Name):
        return node.id == "kind" or node.id.endswith("_kind")
    return isinstance(node, ast.Attribute) and node.attr == "kind"


def strings(node: ast.AST, constants: dict[str, ast.expr]) -> set[str]:
    """The literals of an expression or a pattern, also those of the module's constants in it."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            found.add(part.value)
        elif isinstance(part, ast.Name) and part.id in constants:
            found |= strings(constants[part.id], {})
    return found


def is_told_by_name(one: ast.expr, other: ast.AST, constants: dict[str, ast.expr]) -> bool:
    literals = strings(other, constants)
    if is_name(one):
        return bool(literals)
    return is_kind(one) and not literals.isdisjoint(KINDS)  # a wall may be of a kind, too


def comparisons(source: str) -> Iterator[int]:
    """The lines that compare a kind with a name, by operators, ``match`` or a table of names."""
    tree = ast.parse(source)
    constants: dict[str, ast.expr] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        if statement.value is not None:
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            constants |= dict.fromkeys(names, statement.value)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare | ast.Match | ast.Subscript):
            continue
        pairs: list[tuple[ast.expr, ast.AST]]
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = [(one, other) for one in sides for other in sides if one is not other]
        elif isinstance(node, ast.Match):
            pairs = [(node.subject, case.pattern) for case in node.cases]
        else:
            pairs = [(node.slice, node.value)]
        if any(is_told_by_name(one, other, constants) for one, other in pairs):
            yield node.lineno


@pytest.mark.parametrize(
    "source",
    [
        "if spec.kind.name == 'depth': pass",
        "if 'depth' == spec.kind.name: pass",
        "if kind.name != 'a kind of a user': pass",
        "masks = [s for s in specs if s.kind.name in ('saliency', 'edge')]",
        "if kind.name not in ['semseg']: pass",
        "if kind == 'normals': pass",
        "if spec.kind in {'depth', 'disparity'}: pass",
        "if values['kind'] == 'semseg': pass",
        "MASKS = ('saliency', 'edge')\ndef f(kind): return kind in MASKS",
        "MASKS: tuple = ('edge',)\nfound = spec.kind.name in MASKS",
        "match spec.kind.name:\n    case 'depth': pass",
        "unit = {'depth': 'm', 'disparity': 'px'}[spec.kind.name]",
        "UNITS = {'depth': 'm'}\nunit = UNITS[kind]",
    ],
)
def test_a_comparison_is_found(source: str) -> None:
    assert list(comparisons(source))


@pytest.mark.parametrize(
    "source",
    [
        "if own.kind.name != wanted.kind.name: pass",
        "if kind in cls.kinds: pass",
        "if kind == 'planks': pass",
        "if array.dtype.kind not in 'buif': pass",
        "kind: str = 'depth'",
        "spec = KINDS['depth']",
        "if spec.name == 'depth' and spec.kind.has_boxes: pass",
    ],
)
def test_other_lines_are_not(source: str) -> None:
    assert not list(comparisons(source))


def test_no_module_outside_tasks_compares_a_kind_with_a_name() -> None:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    others = [path for path in paths if ROOT / "visionmtl/tasks" not in path.parents]
    assert len(others) > 100
    assert len(others) < len(paths)
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in others
        for line in comparisons(path.read_text(encoding="utf-8"))
    ]
    assert found == []
