"""The import graph: arrows run one way, no circle, one room each for SQL and device names."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("data", "network", "train", "run")
ALLOWED = {
    "data": {"data", "labels"},
    "network": {"network"},
    "train": {"train", "data", "network"},
    "run": {"run", "train", "data", "network", "labels"},
}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imports_of(path: Path) -> set[str]:
    """The project's modules that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            # `from room import thing` names a module where there is one of that name
            found |= {
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}" in NAMES
                else node.module
                for alias in node.names
            }
    return {name for name in found if name.split(".")[0] in {*ROOMS, "labels"}}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_run_one_way(path):
    room = name_of(path).split(".")[0]
    forbidden = {name for name in imports_of(path) if name.split(".")[0] not in ALLOWED[room]}
    assert not forbidden, f"{name_of(path)} must not import {sorted(forbidden)}"


def test_no_circle():
    graph = {name_of(path): imports_of(path) - {name_of(path)} for path in MODULES}
    # a package's __init__ re-exports its modules; a module that imports its own package is a circle
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(MODULES)


def test_no_circle_between_the_packages_of_data():
    """For example, `data.clips` imports `data.augment`, which imports nothing of `data.clips`."""
    graph: dict[str, set[str]] = {}
    for path in (ROOT / "data").glob("*/*.py"):
        own = f"data.{path.parent.name}"
        others = {".".join(name.split(".")[:2]) for name in imports_of(path)} - {own}
        graph.setdefault(own, set()).update(others)
    assert "data.augment" in graph["data.clips"]
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError for a circle


def test_a_forbidden_arrow_would_be_seen(tmp_path):
    module = tmp_path / "bad.py"
    module.write_text("def f():\n    from run.command_line import main\n    return main\n")
    assert imports_of(module) == {"run.command_line"}


def test_only_the_scripts_import_run_from_outside():
    scripts = sorted(ROOT.glob("*.py"))
    importing = [path.name for path in scripts if "run.command_line" in imports_of(path)]
    assert importing and all(name.startswith("train_") for name in importing)


@pytest.mark.parametrize("path", sorted(ROOT.glob("train_*.py")), ids=lambda path: path.name)
def test_scripts_stay_under_ten_lines(path):
    assert len(path.read_text().splitlines()) < 10


@pytest.mark.parametrize(
    ("pattern", "home"),
    [
        (
            r"\bsqlite3\b",
            {
                f"data/store/{name}.py"
                for name in (
                    "format",
                    "reader",
                    "writer",
                    "shard_index",
                    "shard_index_writer",
                    "shard_writer",
                )
            },
        ),
        (
            r"torch\.device\((?!.meta)|\.cuda\(\)|\"cuda|torch\.cuda\b",
            {f"train/{name}.py" for name in ("devices", "stopwatch", "prefetch")},
        ),
    ],
    ids=["SQL", "device names"],
)
def test_one_room_each(pattern, home):
    users = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if "benchmarks" not in path.parts and re.search(pattern, path.read_text())
    }
    assert users <= home, f"{sorted(users - home)} should leave that to {sorted(home)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", [*MODULES, ROOT / "train" / "results"], ids=name_of)
def test_git_ignores_no_module(path):
    ignored = (ROOT / ".gitignore").read_text().split()
    folders = {name.rstrip("/") for name in ignored if not name.startswith("/")}
    assert not folders & {*path.relative_to(ROOT).parts}


def test_every_folder_of_modules_is_a_package():
    assert [path.parent for path in MODULES if not (path.parent / "__init__.py").exists()] == []
