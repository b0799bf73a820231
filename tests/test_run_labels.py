"""`python -m run.labels`: the ready csvs again, and what users convert."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from data.annotations.label_csv import load_labels
from data.annotations.list_licences import PUBLISHED
from data.annotations.splits import open_split
from data.data_error import DataError
from data.dataset_defaults import DATASETS, READY_MADE, dataset_spec
from run.labels import CLASS_LISTS, class_list, main

ROOT = Path(__file__).parent.parent


def test_ready_csvs_are_those_of_the_official_lists(real_data, tmp_path):
    main(["build", "--source", str(real_data / "labels"), "--output", str(tmp_path)])
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ready = {
        path.name: path.read_bytes() for path in READY_MADE.iterdir() if path.name != "README.md"
    }
    assert built.keys() == ready.keys()
    for name in built:
        if name.endswith(".gz"):  # zlib may compress otherwise elsewhere
            assert load_labels(tmp_path / name).ids.tolist() == (
                load_labels(READY_MADE / name).ids.tolist()
            )
        else:
            assert built[name] == ready[name], name


def test_class_lists_have_the_benchmarks_numbers():
    for name, dataset in (
        ("ucf101", "ucf101"),
        ("hmdb51", "hmdb51"),
        ("hacs", "hacs"),
        ("moments_in_time", "mit"),
        ("diving48", "diving48"),
    ):
        assert len(class_list(name).read_text().splitlines()) == DATASETS[dataset].classes
    for variant in (200, 400, 600, 700):
        names = class_list(f"kinetics-{variant}").read_text().splitlines()
        assert len(names) == variant == dataset_spec("kinetics", variant).classes
    assert len(CLASS_LISTS) == 9


def test_training_finds_what_is_converted(tmp_path):
    """The csvs' names and ids are those that `open_split` looks for."""
    root = tmp_path / "d"
    for folder in ("Archery/ab_000010_000012", "Archery/cd_000000_000002"):
        (root / "jpg" / folder).mkdir(parents=True)
    source = tmp_path / "HACS_clips_v1.1.csv"
    source.write_text(
        "classname,youtube_id,subset,start,end,label\n"
        "Archery,ab,training,10.5,12.5,1\nArchery,ab,training,40,42,-1\n"
        "Archery,cd,validation,0.0,2.0,1\n"
    )
    main(["hacs", str(source), "--output", str(root / "labels")])
    spec = dataset_spec("hacs")
    train = open_split(spec, root, "train")
    val = open_split(spec, root, "val", classes=train.classes)
    assert train.folders.tolist() == ["Archery/ab_000010_000012"]
    assert val.folders.tolist() == ["Archery/cd_000000_000002"]


def test_kinetics_ids_and_part(tmp_path):
    source = tmp_path / "kinetics_train.csv"
    source.write_text("label,youtube_id,time_start,time_end\nabseiling,a,1,11\nabseiling,b,1,11\n")
    (tmp_path / "ids.txt").write_text("b\n")
    options = ["--variant", "200", "--ids", str(tmp_path / "ids.txt"), "--output", str(tmp_path)]
    main(["kinetics", str(source), *options])
    assert (tmp_path / "kinetics-200_train.csv").read_text() == (
        "label,youtube_id,time_start,time_end,split\nabseiling,b,1,11,train\n"
    )


def test_diving48_and_mit(tmp_path):
    for part in ("train", "test"):
        entries = [{"vid_name": f"{part}1", "label": 3, "start_frame": 0, "end_frame": 9}]
        (tmp_path / f"Diving48_V2_{part}.json").write_text(json.dumps(entries))
    main(["diving48", *map(str, sorted(tmp_path.glob("*.json"))), "--output", str(tmp_path)])
    name = class_list("diving48").read_text().splitlines()[3]
    assert load_labels(tmp_path / "diving48_train.csv").classes == (name,)
    assert load_labels(tmp_path / "diving48_test.csv").ids.tolist() == ["test1"]
    (tmp_path / "validationSet.csv").write_text("clapping/x_1.mp4,clapping,3,0\n")
    main(["mit", str(tmp_path / "validationSet.csv"), "--output", str(tmp_path)])
    assert load_labels(tmp_path / "Moments_in_Time_val.csv").ids.tolist() == ["x_1"]


def test_folders_and_lists_train_as_custom(tmp_path):
    for number in range(10):
        path = tmp_path / "videos" / "run" / f"r{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        (tmp_path / "d" / "jpg" / "run" / f"r{number}").mkdir(parents=True)
    output = tmp_path / "labels"
    main(["folders", str(tmp_path / "videos"), "--name", "mine", "--output", str(output)])
    train = open_split(DATASETS["custom"], tmp_path / "d", "train", labels=output)
    val = open_split(DATASETS["custom"], tmp_path / "d", "val", labels=output)
    assert (len(train), len(val)) == (8, 2)
    assert not set(train.folders) & set(val.folders)
    lists = tmp_path / "val_list.txt"
    lists.write_text("run/r1.mp4 0\nrun/r2.mp4 0\n")
    main(["list", str(lists), "--name", "theirs", "--output", str(tmp_path)])
    assert load_labels(tmp_path / "theirs_val.csv").ids.tolist() == ["r1", "r2"]


def test_sources_and_licences_are_named(tmp_path, monkeypatch):
    readme = (READY_MADE / "README.md").read_text()
    for title, source, licence in PUBLISHED.values():
        assert f"| {title} | {source} | {licence} |" in readme
    rows = tmp_path / "kinetics_val.csv"
    rows.write_text("label,youtube_id,time_start,time_end,split\nabseiling,aaaaaaaaaaa,1,11,val\n")
    main(["kinetics", str(rows), "--variant", "200", "--output", str(tmp_path / "out")])
    said = (tmp_path / "out" / "kinetics_licence.txt").read_text()
    assert "CC BY 4.0" in said and "Mini-Kinetics-200" in said and "UCF" not in said
    (tmp_path / "a.txt").write_text("run/r1.mp4 0\n")
    main(["list", str(tmp_path / "a.txt"), "--part", "train", "--output", str(tmp_path / "own")])
    assert [path.suffix for path in (tmp_path / "own").iterdir()] == [".csv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "nowhere_train.txt"], "cannot be read"),
        (["hacs", "nowhere.csv"], "cannot be read"),
        (["ucf101", "nowhere"], "cannot be read"),
        (["folders", "nowhere"], "no such folder"),
        (["build", "--source", "nowhere"], "no such folder"),
    ],
)
def test_missing_input(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        main(words if words[0] == "build" else [*words, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_name_that_says_no_part(tmp_path):
    (tmp_path / "all.txt").write_text("a/b.mp4 0\n")
    words = [sys.executable, "-m", "run.labels", "list", str(tmp_path / "all.txt")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        "its name contains neither train, val nor test; give --part"
    )
    assert len(done.stderr.splitlines()) == 1


HEADS = {
    "hacs": ["classname,youtube_id,subset,start,end,label\n", ""],
    "mit": ["a/b.mp4,a,1,2\n", ""],
    "activitynet": ['{"database":{"a":{"subset":"training","annotations":[', '{"database":', ""],
    "diving48": ["[", '[{"vid_name":"a","label":', ""],
    "list": ["a/b.avi 1\n", "a/b.avi 10 1\n", ""],
    "kinetics": ["label,youtube_id,time_start,time_end,split\n", ""],
    "ucf101": ["a/b.avi 1\n", ""],
    "hmdb51": ["a.avi 1\n", ""],
}
WORST = {
    "diving48": [
        "[" * 100_000,
        '[{"vid_name":"a","label":Infinity}]',
        '[{"vid_name":1,"label":[]}]',
    ],
    "list": ["a/b " + "9" * 5000],
    "hacs": [HEADS["hacs"][0] + "Archery,a,training,inf,2,1\n", "z" * 200_000],
    "mit": ["z" * 200_000 + ",a\n", '"' + "z" * 200_000],
}
PIECES = [*',"\n\0 1/[]{}', "\r\n", "-1", "9" * 5000, "inf", "1e999", "a/b.mp4", "x.avi", "train"]
PIECES += ["z" * 140_000, '{"vid_name":"a","label":1}', "Infinity", "Archery", "..", "\x85", "\xff"]


@pytest.mark.fault
def test_any_list_is_converted_or_one_line(tmp_path, trials):
    trial = trials("any list is converted or one line that names it", "made-up lists of 7 kinds")
    rng = random.Random(0)
    attacks = [(kind, content) for kind, contents in WORST.items() for content in contents]
    for _ in range(trial.number(20, 500)):
        attacks += [
            (kind, rng.choice(heads) + "".join(rng.choices(PIECES, k=rng.randint(0, 12))))
            for kind, heads in HEADS.items()
        ]
    names = {
        "ucf101": [f"{part}list0{n}.txt" for part in ("train", "test") for n in (1, 2, 3)],
        "hmdb51": [f"x_test_split{n}.txt" for n in (1, 2, 3)],
    }
    for kind, content in attacks:
        source = tmp_path / kind
        source.mkdir(exist_ok=True)
        for name in names.get(kind, ["train.csv"]):
            (source / name).write_bytes(content.encode("latin-1"))
        words = source if kind in names else source / "train.csv"
        try:
            main([kind, str(words), "--output", str(tmp_path / "out")])
            held = True
        except DataError as error:
            held = len(str(error)) < 1000
        trial.add(held, f"{kind}: {content[:100]!r}")
