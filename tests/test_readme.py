"""What the README says is true: its commands run, its tables, tree and links are right."""

import importlib
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser as torchrun_parser

from data.annotations.label_csv import load_labels
from data.dataset_defaults import DATASETS
from data.synthetic import write_videos
from network import list_networks
from run import download
from run.command_line import parse_config
from run.exit_codes import command
from run.own_videos import build_custom_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)
COMMANDS = [
    words
    for language, text in BLOCKS
    if not language
    for line in text.splitlines()
    if (words := shlex.split(line, comments=True))
]

NETWORK = "ir_csn_50"  # takes the place of every network: the smallest there is
SMALL = (
    f"--network {NETWORK} --clip-length 4 --clip-size 32 --batch-size 4 --bn-clips 4 --gpus 0 "
    "--workers 0 --lr-base 0.0005 --lr-steps 1 --multigrid off --tensorboard False "
    "--recipe original"
).split()

USE_NETWORK = ("run.evaluate", "run.predict", "run.explain", "run.features")


class Walk:
    """Runs the README's commands one after the other, as a user would, on a small dataset."""

    def __init__(self, folder: Path, tiny: Path, monkeypatch):
        monkeypatch.chdir(folder)
        self.monkeypatch = monkeypatch
        self.dataset = shutil.copytree(tiny, folder / "dataset")
        self.labels = ["--labels", str(self.dataset / "labels" / "tiny_train.csv")]
        self.videos = folder / "videos"
        ((action, video), *_) = write_videos(self.videos, 1, seed=1, prefix="new")
        self.clip = self.videos / action / f"{video}.mp4"

    def run(self, words: list[str]) -> None:
        """Run one command, with the paths of the small dataset for those of the README."""
        words = [self.replaced(word) for word in words]
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
        elif words[0] == "torchrun":
            options = torchrun_parser().parse_args(words[1:])
            self.train(options.training_script, options.training_script_args)
        elif words[1] == "-m":
            self.run_command(words[2], words[3:])
        else:
            self.train(words[1], words[2:])

    def replaced(self, word: str) -> str:
        word = re.sub(r"^/d/data/\w+", str(self.dataset), word)
        word = word.replace("/d/UCF-101/", str(self.videos)).replace("my_clip.mp4", str(self.clip))
        return word.replace("srtg_r3d_34_", f"{NETWORK}_").replace("_ep-0020", "_ep-0001")

    def train(self, script: str, words: list[str]) -> None:
        """Train for an epoch or two on UCF-101 and HMDB-51; check the options of other runs."""
        assert words[words.index("--network") + 1] in list_networks()
        words = ["2" if word == "21" else word for word in words]  # --resume-epoch
        if "--labels" not in words:
            words += self.labels
        words += [*SMALL, "--end-epoch", "2" if {"--resume", "--resume-epoch"} & {*words} else "1"]
        assert (ROOT / script).exists()
        if script not in ("train_ucf101.py", "train_hmdb51.py"):
            if script == "train_custom.py":
                build_custom_parser().parse_args(words)
            else:
                parse_config(script.removeprefix("train_").removesuffix(".py"), words)
            return
        self.monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(SystemExit) as leaving:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        assert leaving.value.code == 0, words

    def run_command(self, name: str, words: list[str]) -> None:
        if name == "run.download":  # needs the network
            download.build_parser().parse_args(words)
            return
        words += [NETWORK] if name == "run.networks" else []  # all of them take minutes
        words += ["--gpus", "0"] if name in USE_NETWORK else []
        words += self.labels if name in ("run.evaluate", "run.features") else []
        if name == "run.tune":
            words += [*self.labels, *SMALL, "--steps", "20", "--minutes", "60"]
        main = importlib.import_module(name).main
        assert command(lambda: main(words)) == 0, (name, words)


def test_every_command_runs(tmp_path, tiny, monkeypatch, capsys):
    walk = Walk(tmp_path, tiny, monkeypatch)
    for words in COMMANDS:
        walk.run(words)
    assert len(COMMANDS) > 15
    results = {path.parent.name for path in (tmp_path / "results").glob("*/*/best.pth")}
    assert results == {f"{NETWORK}_gates_False"}
    said = capsys.readouterr().out
    assert "reversed  top1" in said and "new_" in said


def test_the_code_runs():
    (code,) = (text for language, text in BLOCKS if language == "python")
    exec(code, {})


def test_the_row_of_a_label_csv_is_one(tmp_path):
    (text,) = (text for language, text in BLOCKS if language == "csv")
    (tmp_path / "example.csv").write_text(text)
    table = load_labels(tmp_path / "example.csv")
    assert len(table) == 1 and not table.rejected


@pytest.mark.parametrize("spec", DATASETS.values(), ids=DATASETS)
def test_the_table_of_defaults(spec):
    (line,) = re.findall(rf"^\| `train_{spec.name}\.py`.*?\| (.*) \|$", README, re.M)
    steps = ", ".join(map(str, spec.lr_steps))
    intervals = ", ".join(map(str, spec.train_intervals))
    assert line.split(" | ") == [
        str(spec.classes or "as labelled"),
        f"{spec.clip_length} × {spec.clip_size}",
        *(intervals, str(spec.batch), str(spec.epochs), str(spec.lr), steps),
    ]


def test_the_links_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]*)\)", README) if "://" not in link]
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)", (ROOT / path).read_text(), re.M)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, link


def test_it_is_short():
    assert len(README.splitlines()) < 200


def modules_in_the_tree() -> dict[str, set[str]]:
    """The modules that the README's tree names, by folder; none where it names a folder only."""
    (text,) = (text for _, text in BLOCKS if text.startswith("data/ "))
    folders: dict[str, set[str]] = {}
    current = ""
    for line in text.splitlines():
        folder, words = re.fullmatch(r"(\S*/)? +(.*)", line).groups()
        current = folder or current
        names = words.partition(": ")[2].split()
        folders.setdefault(current, set()).update(names)
    return folders


def test_the_tree_names_every_module_and_no_other():
    tree = modules_in_the_tree()
    for package in ("data", "network", "train", "run"):
        for init in (ROOT / package).rglob("__init__.py"):
            assert f"{init.parent.relative_to(ROOT)}/" in tree
    for folder, names in tree.items():
        there = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
        assert (ROOT / folder).is_dir() and (not names or names == there), folder
