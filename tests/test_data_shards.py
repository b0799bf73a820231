"""Videos in shards give the same clips as single stores, and damage or a kill never loses one."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from test_data_frames import jpeg_of, write_legacy

from data.annotations.dataset_fingerprint import fingerprint
from data.annotations.splits import open_split
from data.annotations.video_folders import video_folders
from data.clips.clip_dataset import ClipDataset, ClipOptions, ClipRequest
from data.data_error import DataError
from data.dataset_defaults import dataset_spec
from data.store import FrameStore, is_finished, open_store, verify_store, write_store
from data.store.shard_index import INDEX, find_in_shards, open_index, shard_numbers
from data.store.shard_writer import Packer
from data.synthetic import render, write_videos
from run import check, convert, labels
from run.benchmarks.million_videos import simulate
from run.exit_codes import command

ROOT = Path(__file__).parent.parent


def frames_of(root: Path) -> dict[str, list[bytes]]:
    """The JPEGs of every video of a dataset."""
    found = {}
    for folder in video_folders(root):
        with FrameStore(folder) as store:
            found[str(folder.relative_to(root))] = store.jpegs(range(store.n_frames))
    return found


def pack(root: Path, shard_bytes: int = 60_000) -> list:
    with Packer(root / "jpg", shard_bytes) as packer:
        for folder in video_folders(root):
            packer.add(folder)
        packer.finish()
        return packer.failed


@pytest.fixture
def dataset(tiny, tmp_path) -> Path:
    return shutil.copytree(tiny, tmp_path / "data")


def clips_of(root: Path) -> list:
    spec, options = dataset_spec("custom"), ClipOptions((1, 2), short_side=40, clip_size=32)
    where = {"labels": root / "labels" / "tiny_train.csv"}
    train = open_split(spec, root, "train", **where)
    val = open_split(spec, root, "val", classes=train.classes, **where)
    found = []
    for videos, training in ((train, True), (val, False)):
        dataset = ClipDataset(videos, options, training=training, seed=3)
        found += [
            dataset[ClipRequest(i, epoch, 8, 32)] for i in range(len(videos)) for epoch in (1, 2)
        ]
    return [*found, fingerprint(train, val)]


def test_clips_are_the_same_to_the_bit(dataset):
    before, frames = clips_of(dataset), frames_of(dataset)
    assert pack(dataset) == []
    jpg = dataset / "jpg"
    assert len(shard_numbers(jpg)) > 2
    assert not list(jpg.rglob("frames.db")) and not [p for p in jpg.iterdir() if p.is_dir()]
    after = clips_of(dataset)
    *clips, identity = before
    for one, other in zip(clips, after, strict=False):
        assert one.clip.equal(other.clip) and one[1:] == other[1:]
    assert frames_of(dataset) == frames
    # as for an upgrade: the same dataset, of other sizes
    assert identity.conflict(after[-1]) is None and "harmless" in identity.remark(after[-1])


def test_everything_that_a_store_says_is_kept(tmp_path):
    jpegs = [jpeg_of(number, 96, 128) for number in range(40)]
    uneven = np.cumsum(np.r_[0, np.tile([0.03, 0.2], 20)])[:40]
    jpg = tmp_path / "jpg"
    write_store(jpg / "a" / "varying", "varying", jpegs, companions=(48, 64), times=uneven)
    write_store(jpg / "a" / "even", "even", jpegs[:20], times=np.arange(20) / 25)
    write_legacy(jpg / "a" / "old", jpegs[:5])
    write_store(jpg / "flat", "flat", jpegs[:3])
    odd = os.fsdecode(b"caf\xe9 %_'\"")  # not UTF-8
    write_store(jpg / odd / odd, odd, jpegs[:4])
    folders = video_folders(tmp_path)
    said = {}
    for turn in range(2):
        for folder in folders:
            with FrameStore(folder) as store:
                values = [store.n_frames, store.fps, store.has_varying_rate, store.companions]
                values += [store.times().tobytes() if store.fps else None]
                values += [
                    store.read_at_least([2, 0, 1, 1], side).tobytes() for side in (1, 40, 60)
                ]
                assert values == said.setdefault(folder, values)
            verify_store(folder)
            assert is_finished(folder)
        if not turn:
            assert pack(tmp_path, 2**30) == []
    assert video_folders(tmp_path) == folders
    assert find_in_shards(jpg / "a" / "nowhere") is None
    with pytest.raises(DataError, match="no such file"):
        FrameStore(jpg / "a" / "nowhere")


def test_a_damaged_store_is_left_and_named(dataset):
    folder = video_folders(dataset)[3]
    path = folder / "frames.db"
    data = bytearray(path.read_bytes())
    with FrameStore(folder) as store:
        at = data.find(store.jpegs([7])[0][-60:-20])
    data[at] ^= 1
    path.write_bytes(data)
    ((failed, reason),) = pack(dataset)
    assert failed == folder and "is damaged" in reason
    assert bytes(data) == path.read_bytes()
    assert len(list((dataset / "jpg").rglob("frames.db"))) == 1
    for other in video_folders(dataset):
        if other != folder:
            verify_store(other)


def test_a_newer_single_store_is_used_and_not_deleted(dataset):
    frames = frames_of(dataset)
    pack(dataset)
    name, jpegs = next(iter(frames.items()))
    write_store(dataset / name, "again", jpegs)  # as a kill before the deletion leaves it
    assert pack(dataset) == [] and not (dataset / name).exists()
    write_store(dataset / name, "newer", jpegs[::-1])
    ((folder, reason),) = pack(dataset)
    assert folder == dataset / name and "differs from the video of this name" in reason
    with FrameStore(folder) as store:
        assert store.jpegs(range(store.n_frames)) == jpegs[::-1]


def test_the_index_is_made_anew(dataset, capfd):
    frames = frames_of(dataset)
    pack(dataset)
    index = dataset / "jpg" / INDEX
    for spoil in (index.unlink, lambda: index.write_bytes(index.read_bytes()[:5000])):
        spoil()
        assert command(lambda: convert.main(["--pack", "--dataset", str(dataset)])) == 0
        assert frames_of(dataset) == frames


def test_a_missing_or_cut_shard_is_one_line(dataset, capfd):
    pack(dataset)
    name = next(iter(open_index(dataset / "jpg").names()))
    path = dataset / "jpg" / "shard-00002.db"
    content = path.read_bytes()
    for spoil in (path.unlink, lambda: path.write_bytes(content[:-4096])):
        spoil()
        with pytest.raises(DataError, match=r"shard-00002.db: (is missing|has [\d,]+), but"):
            shutil.copy(dataset / "jpg" / INDEX, dataset / "jpg" / "copy")
            (dataset / "jpg" / "copy").replace(dataset / "jpg" / INDEX)  # a new file is opened anew
            FrameStore(dataset / "jpg" / name)


def test_flipped_bits_never_give_wrong_frames(dataset, trials):
    """Either the frames are right, or the error is one of ours."""
    frames = frames_of(dataset)
    pack(dataset, 2**30)
    rng = random.Random(4)
    names = list(frames)
    count = trials("a damaged shard or index never gives wrong frames", "flipped bits")
    for target in ("shard-00001.db", INDEX):
        path = dataset / "jpg" / target
        content = path.read_bytes()
        for _ in range(count.number(40, 2000)):
            data = bytearray(content)
            for _ in range(rng.choice((1, 1, 8))):
                # the small structures at the ends are hit more often than the JPEGs
                at = rng.choice((rng.randrange(len(data)), rng.randrange(min(8192, len(data)))))
                data[at] ^= 1 << rng.randrange(8)
            fresh = path.with_name("fresh")
            fresh.write_bytes(data)
            fresh.replace(path)
            name = rng.choice(names)
            try:
                with FrameStore(dataset / name) as store:
                    held = store.jpegs(range(store.n_frames)) == frames[name]
            except DataError:
                held = True
            count.add(held, target)
        path.write_bytes(content)


def test_two_processes_do_not_pack_at_once(dataset):
    with Packer(dataset / "jpg"), pytest.raises(DataError, match="by another process"):
        Packer(dataset / "jpg").__enter__()


def test_open_stores_follow_the_packing(dataset):
    folder = video_folders(dataset)[0]
    before = open_store(folder).jpegs([1])
    pack(dataset)
    assert open_store(folder).jpegs([1]) == before  # the open file outlives its name


# The commands


@pytest.fixture
def videos(tmp_path) -> Path:
    write_videos(tmp_path / "videos", 1, seed=5, prefix="s")
    return tmp_path / "videos"


def test_convert_to_shards_is_the_same_as_convert_then_pack(videos, tmp_path, capfd):
    single, packed, shards = (tmp_path / name for name in ("single", "packed", "shards"))
    source = ["--videos", str(videos)]
    size = ["--shard-size", "0.0001"]
    assert command(lambda: convert.main([*source, "--dataset", str(single)])) == 0
    shutil.copytree(single, packed)
    assert command(lambda: convert.main(["--pack", "--dataset", str(packed), *size])) == 0
    words = [*source, "--dataset", str(shards), "--shards", *size, "--workers", "2"]
    assert command(lambda: convert.main(words)) == 0
    frames = frames_of(single)
    assert len(frames) == 8 and frames_of(packed) == frames == frames_of(shards)
    assert len(shard_numbers(shards / "jpg")) > 1
    kept = {path: path.stat().st_mtime_ns for path in (shards / "jpg").glob("shard-*")}
    assert command(lambda: convert.main(words)) == 0  # nothing is left to do
    assert kept == {path: path.stat().st_mtime_ns for path in (shards / "jpg").glob("shard-*")}
    assert "8 of them are finished" in capfd.readouterr().err
    assert command(lambda: check.main([str(shards), "--no-report"])) == 0


def test_labels_of_a_packed_dataset_are_the_same(dataset, tmp_path):
    found = []
    for turn in range(2):
        out = tmp_path / f"labels{turn}"
        words = ["folders", str(dataset), "--name", "x", "--output", str(out)]
        assert command(lambda words=words: labels.main(words)) == 0
        found.append({path.name: path.read_text() for path in out.glob("*.csv")})
        pack(dataset)
    assert found[0] == found[1] and {"x_train.csv", "x_val.csv"} <= {*found[0]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pack", "--videos", "v"], "--pack excludes --videos"),
        (["--shards"], "give --videos"),
        (["--shards", "--upgrade"], "--shards needs --videos"),
        (["--pack", "--shard-size", "0"], "--shard-size"),
        (["--pack"], "no such folder"),
    ],
)
def test_wrong_options_are_one_line(words, said, tmp_path, capfd):
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(
            command(lambda: convert.main([*words, "--dataset", str(tmp_path / "none")]))
        )
    assert stop.value.code == 2
    assert said in capfd.readouterr().err.splitlines()[-1]


def test_a_full_disk_leaves_every_video(dataset, capfd):
    """With a limit on the size of files, as if the disk were full."""
    frames = frames_of(dataset)
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000)); "
    code = limit + (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from run import convert; "
        "from run.command_line import command; sys.exit(command(convert.main))"
    )
    words = [sys.executable, "-c", code, "--pack", "--dataset", str(dataset)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert frames_of(dataset) == frames


def test_a_killed_packing_loses_nothing_and_goes_on(tmp_path, trials):
    root = tmp_path / "data"
    for number in range(60):
        name = f"v{number:02d}"
        jpegs = [simplejpeg.encode_jpeg(f) for f in render("grow", number)[:8]]
        write_store(root / "jpg" / "grow" / name, name, jpegs)
    frames, rng = frames_of(root), random.Random(1)
    words = [sys.executable, "-c", PACK_SLOWLY, str(root / "jpg")]
    count = trials("a killed packing loses no video", "SIGKILL while shards are written")
    for _ in range(count.number(4, 60)):
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(rng.randrange(1, 30)):  # lines, so that the kill comes in mid-work
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        count.add(frames_of(root) == frames, "videos differ")
    assert pack(root) == []
    jpg = root / "jpg"
    assert frames_of(root) == frames
    assert {path.name for path in jpg.iterdir()} <= {
        INDEX, ".shards.lock", *(f"shard-{number:05d}.db" for number in shard_numbers(jpg))
    }  # fmt: skip


@pytest.mark.slow
def test_a_simulated_dataset_starts_and_its_workers_do_not_grow(tmp_path):
    rows = {row["what"].partition(": ")[2]: row["value"] for row in simulate(tmp_path, 20_000)}
    assert rows["videos in the index"] == 20_000 and rows["start in all"] > 0
    first, last = (value for what, value in rows.items() if what.startswith("own memory"))
    assert last < first + 8  # MiB


#: Packs small shards and says each step, so that a test can kill it between any two.
PACK_SLOWLY = """
import sys
import time
from pathlib import Path
from data.store import shard_index_writer, shard_writer
for module, name in (
    (shard_writer, "copy_store"), (shard_writer, "sync_to_disk"), (shard_writer, "write_index"),
    (shard_index_writer, "sync_to_disk"), (shard_writer, "remove_single_store"),
):
    def told(*args, _work=getattr(module, name), _name=name):
        print(_name, flush=True)
        return _work(*args)
    setattr(module, name, told)
with shard_writer.Packer(Path(sys.argv[1]), 60_000) as packer:
    for folder in sorted((Path(sys.argv[1]) / "grow").iterdir()):
        packer.add(folder)
    packer.finish()
"""


@pytest.mark.slow
def test_a_killed_conversion_to_shards_goes_on(tmp_path):
    """The command itself, killed several times while it converts and packs."""
    write_videos(tmp_path / "videos", 6, seed=5, prefix="s")
    source, shards = ["--videos", str(tmp_path / "videos")], tmp_path / "shards"
    words = [*source, "--dataset", str(shards), "--shards", "--shard-size", "0.0002"]
    for turn in range(5):
        process = subprocess.Popen([sys.executable, "-m", "run.convert", *words], cwd=ROOT)
        wanted = turn + 1  # a shard more than at the last kill
        while process.poll() is None and len(list(shards.glob("jpg/shard-*"))) < wanted:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert command(lambda: convert.main(words)) == 0
    assert command(lambda: convert.main([*source, "--dataset", str(tmp_path / "single")])) == 0
    frames = frames_of(tmp_path / "single")
    assert len(frames) == 48 and frames_of(shards) == frames
