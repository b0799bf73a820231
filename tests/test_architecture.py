"""The import graph: one direction, no cycles; SQL and device names stay in a few modules."""

import ast
import functools
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("data", "network", "train", "run")
ALLOWED = {
    "data": {"data", "labels"},
    "network": {"network"},
    "train": {"train", "data", "network"},
    "run": {"run", "train", "data", "network", "labels"},
}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


@functools.cache
def imports_of(path: Path) -> set[str]:
    """The project's modules that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            # `from package import thing` names a module where there is one of that name
            found |= {
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}" in NAMES
                else node.module
                for alias in node.names
            }
    return {name for name in found if name.split(".")[0] in {*PACKAGES, "labels"}}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path):
    package = name_of(path).split(".")[0]
    forbidden = {name for name in imports_of(path) if name.split(".")[0] not in ALLOWED[package]}
    assert not forbidden, f"{name_of(path)} must not import {sorted(forbidden)}"


def test_imported_modules_exist():
    for path in [*MODULES, *ROOT.glob("tests/*.py"), *ROOT.glob("examples/*.py")]:
        assert imports_of(path) <= NAMES | {"labels"}, path


def test_no_cycle():
    graph = {name_of(path): imports_of(path) - {name_of(path)} for path in MODULES}
    # a package's __init__ re-exports its modules; a module that imports its own package is a cycle
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(MODULES)


def sub_package_graph(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Draw each sub-package, such as `train.results`, as one node; so is `train.setup`."""

    def node(name: str) -> str:
        return ".".join(name.split(".")[:2])

    graph: dict[str, set[str]] = {}
    for name, imported in imports.items():
        graph.setdefault(node(name), set()).update({*map(node, imported)} - {node(name)})
    return graph


def test_no_cycle_between_sub_packages():
    graph = sub_package_graph({name_of(path): imports_of(path) for path in MODULES})
    assert "data.augment" in graph["data.clips"] and "train.results" in graph["train.checkpoint"]
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError for a cycle


def test_a_cycle_between_sub_packages_would_be_seen():
    """No module imports itself here, but each of the two sub-packages needs the other."""
    imports = {
        "train.results.disk_space": {"train.checkpoint.saving"},
        "train.checkpoint.resume": {"train.results.history"},
        "train.checkpoint.saving": set(),
        "train.results.history": set(),
    }
    list(graphlib.TopologicalSorter(imports).static_order())
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(sub_package_graph(imports)).static_order())


def test_a_forbidden_import_would_be_seen(tmp_path):
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
        # it takes 160 MB, and few runs need it
        (r"(?m)^(from|import) torchvision\b", {"network/pretrained/torchvision_sources.py"}),
    ],
    ids=["SQL", "device names", "torchvision outside of functions"],
)
def test_only_these_modules_contain(pattern, home):
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
