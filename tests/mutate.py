"""Put small faults into a module, one at a time, and see whether the fast tests notice.

    python tests/mutate.py                      every module of TABLE, a sample of 40 faults each
    python tests/mutate.py data/augment/crop.py --all  every fault of one module

Each fault is put into a copy of the tree and the module's tests run there, in a process forked from
this one, which has imported torch already. A fault that no test sees is printed with its line.
Faults that change nothing anybody could see are listed in `equivalent_faults.txt`, with the reason;
they are left out of the score.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import itertools
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent_faults.txt")

STORE_TESTS = (
    "test_data_frames.py test_data_store_attacks.py -k 'not kill and not 99999 and not flipped "
    "and not anywhere and not damaged_pages and not replaced_while and not mutated'"
)

READER_TESTS = (
    "test_data_frames.py test_data_store_attacks.py test_data_frame_times.py test_data_shards.py "
    "-k 'not kill and not 99999 and not flipped and not anywhere and not damaged_pages and not "
    "mutated and not simulated and not conver and not two_processes'"
)

#: Module -> its fast tests, as arguments of pytest. Tests that start other processes are left out.
TABLE: dict[str, str] = {
    "data/clips/frame_sampling.py": "test_data_sampling.py",
    "data/augment/crop.py": "test_data_crops.py",
    "data/clips/clip_dataset.py": "test_data_clips.py",
    "data/annotations/label_csv.py": "test_data_labels.py test_data_bad_labels.py",
    "data/clips/loader.py": "test_data_loading.py -k 'not number_of_workers'",
    "data/store/format.py": STORE_TESTS,
    "data/store/reader.py": READER_TESTS,
    "data/store/writer.py": READER_TESTS,
    "network/gates.py": "test_network_gates.py -k 'not place and not name_every'",
    "train/batchnorm.py": "test_train_batchnorm.py",
    "train/schedule/multigrid_phases.py": "test_train_multigrid.py -m 'not fault'",
    "train/schedule/learning_rate.py": "test_train_multigrid.py -m 'not fault'",
    "train/schedule/steps_table.py": "test_train_multigrid.py -m 'not fault'",
    "train/step.py": "test_train_step.py test_train_outcome.py",
    "train/divergence.py": "test_train_outcome.py",
    "train/averaged_weights.py": "test_train_averaged_weights.py",
    "train/evaluation.py": "test_run_evaluate.py",
    "train/checkpoint/saving.py": "test_train_saving.py -k 'not kill and not system_call'",
    "train/checkpoint/opening.py": "test_train_saving.py test_checkpoint_attacks.py "
    "-k 'no_checkpoint or odd or bounds or only_resuming'",
    "train/results/history.py": "test_train_history.py",
    "train/metrics.py": "test_train_parts.py -k 'top_k or meter'",
    "train/speed_monitor.py": "test_train_parts.py -k 'colours or speed or reader or monitor'",
    "train/results/recorder.py": "test_train_recorder.py -k 'not log'",
    "train/results/log_file.py": "test_train_recorder.py -k log",
    "run/evaluation/class_scores.py": "test_run_evaluate.py",
    "run/evaluation/accuracy_by_views.py": "test_run_evaluate.py",
    "run/evaluation/video_scores.py": "test_run_evaluate.py",
    "run/predicting/segments.py": "test_run_timeline.py test_run_live.py "
    "-k 'intervals or segments_cover or smoothing or blended or clock'",
    "run/predicting/stream_reader.py": "test_run_live.py "
    "-k 'moments or stamps or newest or dropped_frames or no_clip or reached or shorter or shown'",
    "run/comparing/paired_bootstrap.py": "test_run_compare.py -k 'not refused and not files'",
    "run/comparing/class_changes.py": "test_run_compare.py -k by_hand",
}
PRELOADED = (
    "torch", "torch._dynamo", "torch.utils.tensorboard", "torchvision.models.video", "numpy", "cv2",
    "simplejpeg", "matplotlib.figure", "pytest", "hypothesis", "_hypothesis_pytestplugin",
    "hypothesis.strategies", "torch.testing", "PIL.Image", "psutil", "tqdm",
)  # fmt: skip

COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
PAIRS = ("min max", "any all", "minimum maximum", "amin amax", "argmin argmax", "floor ceil",
         "zeros ones")  # fmt: skip
RENAMED = {a: b for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
RENAMED |= {"round": "int", "rint": "floor"}
SYMMETRIC = {"min", "max", "minimum", "maximum"}  # whatever the order of their arguments


class Fault(NamedTuple):
    """One change of a module."""

    where: str  # function or class
    line: int
    change: str
    source: str  # the whole module's

    @property
    def name(self) -> str:
        """What `equivalent_faults.txt` calls it, whatever line it stands in."""
        return f"{self.where}: {self.change}"


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Every small change of one node, as the node that takes its place."""
    new = copy.deepcopy(node)
    match new:
        case ast.Compare():
            for i, kind in enumerate(map(type, node.ops)):
                new.ops[i] = COMPARED[kind]()
                yield new
                new.ops[i] = kind()
        case ast.BinOp() if type(new.op) in COMPUTED and not any(
            isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str)
            for side in (new.left, new.right)
        ):
            new.op = COMPUTED[type(new.op)]()
            yield new
        case ast.BoolOp():
            new.op = ast.Or() if isinstance(new.op, ast.And) else ast.And()
            yield new
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield new.operand
        case ast.If() | ast.While() | ast.IfExp():
            new.test = ast.UnaryOp(ast.Not(), new.test)
            yield new
        case ast.comprehension() if new.ifs:
            new.ifs = []
            yield new
        case ast.Constant(value=bool()):
            yield ast.Constant(not new.value)
        case ast.Constant(value=int()):
            yield from (ast.Constant(new.value + 1), ast.Constant(new.value - 1))
        case ast.Constant(value=float()):
            yield ast.Constant(new.value * 1.5 if new.value else 1.0)
        case ast.Slice():
            for bound in ("lower", "upper"):
                if getattr(node, bound) is not None:
                    setattr(new, bound, None)
                    yield new
                    setattr(new, bound, getattr(node, bound))
        case ast.Call():
            yield from changed_calls(new)
        case ast.Return(value=ast.expr()) if not isinstance(new.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.AugAssign():
            yield ast.Pass()
        case ast.Expr() if not isinstance(new.value, ast.Constant | ast.Yield | ast.YieldFrom):
            yield ast.Pass()
        case ast.Assign() if not isinstance(new.targets[0], ast.Name | ast.Tuple):
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.FunctionDef() if new.decorator_list:
            if ast.unparse(new.decorator_list[0]).startswith("torch."):
                new.decorator_list = []
                yield new


def changed_calls(call: ast.Call) -> Iterator[ast.Call]:
    """The first two arguments swapped, one keyword left out, min for max."""
    function, field = call.func, "id" if isinstance(call.func, ast.Name) else "attr"
    name, arguments = getattr(call.func, field, ""), call.args
    swapped = [*arguments[1::-1], *arguments[2:]]
    if (
        len({ast.dump(a) for a in arguments[:2]}) == 2
        and name not in SYMMETRIC
        and not any(isinstance(a, ast.Starred) for a in arguments[:2])
    ):
        call.args = swapped
        yield call
        call.args = arguments
    keywords = call.keywords
    for i in range(len(keywords)):
        call.keywords = keywords[:i] + keywords[i + 1 :]
        yield call
    call.keywords = keywords
    if name in RENAMED:
        setattr(function, field, RENAMED[name])
        yield call


def faults(path: Path) -> list[Fault]:
    """All faults that can be put into a module, in the order of its lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[Fault] = []

    def visit(node: ast.AST, where: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            where = f"{where}.{node.name}".strip(".")
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "type_params", "type_comment"):
                continue
            children = value if isinstance(value, list) else [value]
            for i, child in enumerate(children):
                if isinstance(child, ast.AST):
                    put_in(node, field, children if value is children else None, i, child, where)
                    if not is_message(child):
                        visit(child, where)

    def put_in(parent, field, items, i, child, where) -> None:
        for new in replacements(child):
            if items is None:
                setattr(parent, field, new)
            else:
                items[i] = new
            source = ast.unparse(ast.fix_missing_locations(tree))
            line = getattr(child, "lineno", getattr(parent, "lineno", 0))
            inside = child.name if isinstance(child, ast.FunctionDef) else where or "module"
            found.append(Fault(inside, line, in_words(child, new), source))
            if items is None:
                setattr(parent, field, child)
            else:
                items[i] = child

    visit(tree, "")
    return found


def is_message(node: ast.AST) -> bool:
    """Whether what stands in a node is only read by people: errors, log lines, options' help."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.func).startswith(("log.", "parser."))
    return isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom)


def short(node: ast.AST) -> str:
    """A node's first line of text."""
    if isinstance(node, ast.If | ast.While):
        return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
    if isinstance(node, ast.FunctionDef):
        return " ".join(f"@{ast.unparse(d)}" for d in node.decorator_list) or "no decorator"
    return " ".join(ast.unparse(node).split())


def in_words(old: ast.AST, new: ast.AST) -> str:
    """What was there and what is there now; of long texts the surroundings of the change."""
    texts = short(old), short(new)
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
    at = max(0, sum(1 for _ in same) - 40) if max(map(len, texts)) > 100 else 0
    return " -> ".join(text[at : at + 100] for text in texts)


def run_tests(tests: str, limit: float) -> bool:
    """Whether the tests pass, in a process forked from this one, within `limit` seconds."""
    pid = os.fork()
    if not pid:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))  # a fault may ask for memory
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(os.devnull, "r+b") as null, open("tests.log", "wb") as log:  # noqa: PTH123
            for number, file in enumerate((null, log, log)):
                os.dup2(file.fileno(), number)
        import hypothesis
        import pytest

        # a failing example is enough: it need not be made small
        hypothesis.settings.register_profile(
            "mutate", database=None, derandomize=True, deadline=None,
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )  # fmt: skip
        hypothesis.settings.load_profile("mutate")
        words = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        code = 1
        try:
            os.chdir("tests")
            code = pytest.main([*words, "--basetemp", "../made", *shlex.split(tests)])
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # and what it started
    if not ended:
        os.waitpid(pid, 0)
    return bool(ended) and os.waitstatus_to_exitcode(status) == 0


def copy_tree(to: Path) -> None:
    """The tree as it is, with what is not committed yet, without what git ignores."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)


def attack(module: str, number: int, seed: int, known: set[str]) -> tuple[int, int, int]:
    """Try `number` faults of a module. Returns how many were tried, seen, left out."""
    path, tests = Path(module), TABLE[module]
    source = path.read_text(encoding="utf-8")
    all_faults = faults(path)
    open_faults = [fault for fault in all_faults if f"{module}: {fault.name}" not in known]
    some = random.Random(seed).sample(open_faults, min(number, len(open_faults)))
    since = time.monotonic()
    if not run_tests(tests, 600):
        sys.exit(f"{module}: its tests fail without a fault:\n{Path('tests.log').read_text()}")
    limit = 10 + 4 * (time.monotonic() - since)
    seen = 0
    for fault in sorted(some, key=lambda fault: fault.line):
        path.write_text(fault.source, encoding="utf-8")
        if run_tests(tests, limit):
            print(f"  {module}:{fault.line}: {fault.name}", flush=True)
        else:
            seen += 1
    path.write_text(source, encoding="utf-8")
    return len(some), seen, len(all_faults) - len(open_faults)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help=f"default: {' '.join(TABLE)}")
    parser.add_argument("--number", type=int, default=40, help="faults of each module")
    parser.add_argument("--all", action="store_true", help="every fault")
    parser.add_argument("--seed", type=int, default=0, help="which faults")
    args = parser.parse_args()
    known = set()
    if EQUIVALENT.exists():
        lines = EQUIVALENT.read_text(encoding="utf-8").splitlines()
        known = {line.partition(" | ")[0] for line in lines if line and not line.startswith("#")}
    for name in PRELOADED:
        importlib.import_module(name)
    sys.path.insert(0, str(ROOT))
    importlib.import_module("data.augment.presets").import_imgaug()  # takes 4 seconds
    for name in [name for name in sys.modules if name.partition(".")[0] == "data"]:
        del sys.modules[name]
    sys.dont_write_bytecode = True  # the size and second of a file may stay the same
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        os.chdir(folder)
        sys.path[:2] = [folder]  # instead of the tree itself and its tests
        os.environ["PYTHONPATH"] = folder
        rows = []
        for module in args.modules or TABLE:
            since = time.monotonic()
            counts = attack(module, sys.maxsize if args.all else args.number, args.seed, known)
            rows.append((module, *counts, time.monotonic() - since))
            print(f"{module}: {counts[1]} of {counts[0]} seen", flush=True)
        os.chdir(ROOT)
    print("\n| module | faults | seen | share | equivalent | seconds |\n|---|---|---|---|---|---|")
    for module, tried, seen, equivalent, seconds in rows:
        print(
            f"| {module} | {tried} | {seen} | {seen / tried:.0%} | {equivalent} | {seconds:.0f} |"
        )
    tried, seen = (sum(row[i] for row in rows) for i in (1, 2))
    print(f"| all | {tried} | {seen} | {seen / tried:.0%} | | |")


if __name__ == "__main__":
    main()
