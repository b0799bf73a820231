"""Frame stores: what they promise, and each promise attacked."""

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_error import DataError
from data.store import FrameStore, open_store, upgrade_store, verify_store, write_store
from data.store.format import LAYOUT, SUMMARY, SUMMARY_PATTERN
from data.store.read_ahead import WHOLE


def jpeg_of(number: int, height: int = 48, width: int = 64) -> bytes:
    """A frame that tells its number: flat colours survive JPEG, and red is not blue."""
    image = np.empty((height, width, 3), np.uint8)
    image[...] = (number * 7 % 256, 128, 255 - number * 7 % 256)
    return simplejpeg.encode_jpeg(image, quality=95)


def write_legacy(folder: Path, jpegs, *, order=None, count=True) -> Path:
    """A store as dataset2database makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "frames.db") as connection:
        connection.execute("CREATE TABLE Images(ObjId STRING, frames BLOB, size INT)")
        for index in range(len(jpegs)) if order is None else order:
            name = f"{folder.name}/frame_{index + 1:05d}"
            connection.execute("INSERT INTO Images VALUES (?, ?, ?)", (name, jpegs[index], 64))
    connection.close()
    if count:
        (folder / "n_frames").write_text(str(len(jpegs)))
    return folder


def write_layout_2(folder: Path, jpegs, *, companion: int) -> Path:
    """A store whose companions' checksums do not depend on the frame's number."""
    write_store(folder, folder.name, jpegs, companions=[companion])
    connection = sqlite3.connect(folder / "frames.db")
    connection.create_function("crc32_of", 1, zlib.crc32)
    connection.execute(f"UPDATE Companions{companion} SET crc32 = crc32_of(frames)")
    connection.commit()
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    return folder


@pytest.fixture
def jpegs() -> list[bytes]:
    return [jpeg_of(i) for i in range(30)]


@pytest.fixture(params=["ours", "legacy"])
def folder(request, tmp_path, jpegs) -> Path:
    folder = tmp_path / "-odd name#1?%41"
    if request.param == "ours":
        write_store(folder, folder.name, jpegs)
    else:
        write_legacy(folder, jpegs, order=np.random.default_rng(0).permutation(30))
    return folder


def expected(jpegs, indices) -> np.ndarray:
    images = [cv2.imdecode(np.frombuffer(jpegs[i], np.uint8), cv2.IMREAD_COLOR) for i in indices]
    return np.stack(images)[..., ::-1]


def test_reads_rgb_in_the_order_asked(folder, jpegs):
    indices = [7, 3, 3, 29, 0, 7]
    with FrameStore(folder) as store:
        assert store.n_frames == len(store) == 30
        clip = store.read(indices)
        assert store.jpegs(indices) == [jpegs[i] for i in indices]
    assert clip.dtype == np.uint8 and clip.shape == (6, 48, 64, 3)
    assert np.abs(clip.astype(int) - expected(jpegs, indices)).max() <= 2
    assert clip[4, 0, 0, 2] > clip[4, 0, 0, 0]  # frame 0 is (0, 128, 255)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_row_order_and_any_indices(tmp_path_factory, data):
    n = data.draw(st.integers(1, 12))
    order = data.draw(st.permutations(range(n)))
    indices = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20))
    jpegs = [jpeg_of(i, 16, 16) for i in range(n)]
    root = tmp_path_factory.mktemp("any")
    write_legacy(root / "old", jpegs, order=order, count=data.draw(st.booleans()))
    write_store(root / "new", "new", iter(jpegs))
    with FrameStore(root / "old") as old, FrameStore(root / "new") as new:
        assert old.jpegs(indices) == new.jpegs(indices) == [jpegs[i] for i in indices]
        assert np.array_equal(old.read(indices), new.read(indices))
        assert np.array_equal(new.read(indices), np.stack([new.read([i])[0] for i in indices]))


def test_the_original_loaders_select_works_on_our_files(tmp_path, jpegs):
    write_store(tmp_path / "clip", "clip", jpegs)
    connection = sqlite3.connect(tmp_path / "clip" / "frames.db")
    names = [f"clip/frame_{i + 1:05d}" for i in (4, 2, 9)]
    sql = "SELECT Objid, frames FROM Images WHERE ObjId IN (?,?,?)"
    rows = connection.execute(sql, names).fetchall()
    assert sorted(rows) == sorted((n, jpegs[i]) for n, i in zip(names, (4, 2, 9), strict=True))
    plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + sql, names))
    assert "SEARCH" in plan and "SCAN" not in plan
    assert connection.execute("SELECT DISTINCT size FROM Images").fetchall() == [(64,)]
    assert (tmp_path / "clip" / "n_frames").read_text().strip() == "30"


def test_more_than_99999_frames(tmp_path):
    jpeg = jpeg_of(1, 8, 8)
    n = 100_005
    last = jpeg_of(2, 8, 8)
    write_store(tmp_path / "long", "long", (last if i == n - 1 else jpeg for i in range(n)))
    with FrameStore(tmp_path / "long") as store:
        assert store.n_frames == n and store.jpegs([n - 1, 99_999]) == [last, jpeg]
    connection = sqlite3.connect(tmp_path / "long" / "frames.db")
    connection.execute("CREATE TABLE Old(ObjId STRING, frames BLOB, size INT)")
    connection.execute("INSERT INTO Old SELECT ObjId, frames, size FROM Images ORDER BY ObjId DESC")
    connection.executescript(
        "DROP TABLE Images; ALTER TABLE Old RENAME TO Images; PRAGMA application_id=0"
    )
    connection.close()
    with FrameStore(tmp_path / "long") as store:
        assert store.n_frames == n and store.jpegs([n - 1, 99_999]) == [last, jpeg]


@pytest.mark.parametrize("indices", [[30], [-1], [0, 31, 2]])
def test_an_index_out_of_range_is_a_bug_not_bad_data(folder, indices):
    with FrameStore(folder) as store, pytest.raises(IndexError):
        store.read(indices)


def test_video_ids_that_are_numbers_or_not_utf8(tmp_path, jpegs):
    for name in ("00123", "1e5", os.fsdecode(b"caf\xe9")):
        write_store(tmp_path / name, name, jpegs[:3])
        with FrameStore(tmp_path / name) as store:
            assert store.jpegs([2, 0]) == [jpegs[2], jpegs[0]]


class TestReducedSizes:
    def test_without_companion(self, folder):
        with FrameStore(folder) as store:
            for asked, got in ((48, 48), (25, 48), (24, 24), (10, 12), (200, 48), (0, 48)):
                assert min(store.read_at_least([1, 1, 0], asked).shape[1:3]) == got

    def test_with_companion(self, tmp_path):
        jpegs = [jpeg_of(i, 120, 160) for i in range(5)]
        write_store(tmp_path / "v", "v", jpegs, companions=[40])
        with FrameStore(tmp_path / "v") as store:
            assert store.companions == (40,)
            for asked, got in ((120, 120), (61, 120), (60, 60), (41, 60), (40, 40), (20, 20)):
                clip = store.read_at_least([4, 0, 4], asked)
                assert min(clip.shape[1:3]) == got, asked
                assert np.abs(clip[:, 2, 2].astype(int) - store.read([4, 0, 4])[:, 2, 2]).max() < 6
            assert store.jpegs([3]) == [jpegs[3]]
        verify_store(tmp_path / "v")

    def test_the_smallest_companion_that_is_large_enough(self, tmp_path):
        jpegs = [jpeg_of(i, 120, 160) for i in range(5)]
        write_store(tmp_path / "v", "v", jpegs, companions=[90, 40])
        with FrameStore(tmp_path / "v") as store:
            assert store.companions == (40, 90)
            for asked, got in ((91, 120), (90, 90), (46, 90), (45, 45), (41, 45), (40, 40)):
                assert min(store.read_at_least([4, 0, 4], asked).shape[1:3]) == got, asked
        assert verify_store(tmp_path / "v") == 5

    def test_only_exact_reads_are_exact(self, tmp_path):
        rng = np.random.default_rng(0)
        image = cv2.resize(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), (160, 120))
        jpegs = [simplejpeg.encode_jpeg(image, quality=90, colorsubsampling="420")]
        write_store(tmp_path / "v", "v", jpegs)
        with FrameStore(tmp_path / "v") as store:
            exact = store.read([0]).astype(int)
            assert np.array_equal(store.read_at_least([0], 120), exact)
            rough = store.read_at_least([0], 100)
        assert rough.shape == exact.shape
        assert 0 < np.abs(rough - exact).mean() < 2

    def test_no_companion_where_frames_are_small(self, tmp_path, jpegs):
        write_store(tmp_path / "v", "v", jpegs, companions=[48])
        with FrameStore(tmp_path / "v") as store:
            assert store.companions == () and store.read_at_least([0], 48).shape == (1, 48, 64, 3)


def assert_refused(folder: Path, *words: str) -> None:
    """Opening or verifying says, in one line, which file and what."""
    with pytest.raises(DataError) as caught:
        verify_store(folder)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    for word in words:
        assert word in message, message


def test_the_earlier_layout_is_read_and_upgraded(tmp_path):
    jpegs = [jpeg_of(i, 120, 160) for i in range(5)]
    folder = write_layout_2(tmp_path / "v", jpegs, companion=40)
    with FrameStore(folder) as store:
        assert (store.layout, store.n_frames, store.companions) == (2, 5, (40,))
        assert store.jpegs([4, 1]) == [jpegs[4], jpegs[1]]
        assert store.read_at_least([4, 1], 40).shape == (2, 40, 53, 3)
    verify_store(folder)
    assert upgrade_store(folder) and not upgrade_store(folder)
    with FrameStore(folder) as store:
        assert (store.layout, store.n_frames, store.companions) == (3, 5, (40,))
        assert store.jpegs(range(5)) == jpegs
        assert store.read_at_least([4, 1], 40).shape == (2, 40, 53, 3)


class TestDamage:
    def test_missing_and_empty(self, tmp_path, folder):
        assert_refused(tmp_path / "none", "frames.db", "no such file")
        (folder / "frames.db").write_bytes(b"")
        assert_refused(folder, "empty")

    @pytest.mark.parametrize("content", [b"x", b"\0" * 5000, b"SQLite format 3\0" + b"\0" * 84])
    def test_foreign_bytes(self, folder, content):
        (folder / "frames.db").write_bytes(content)
        assert_refused(folder, "frames.db")

    def test_foreign_database(self, tmp_path):
        with sqlite3.connect(tmp_path / "frames.db") as connection:
            connection.execute("CREATE TABLE Other(a)")
        connection.close()
        assert_refused(tmp_path, "no such table: Images")

    def test_names_that_are_not_frames(self, tmp_path, jpegs):
        write_legacy(tmp_path / "v", jpegs[:2])
        with sqlite3.connect(tmp_path / "v" / "frames.db") as connection:
            connection.execute("UPDATE Images SET ObjId = 'thumbnail' WHERE rowid = 2")
        connection.close()
        assert_refused(tmp_path / "v", "row 2", "thumbnail")

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
    def test_half_copied(self, folder, share):
        content = (folder / "frames.db").read_bytes()
        (folder / "frames.db").write_bytes(content[: int(len(content) * share)])
        assert_refused(folder)

    @pytest.mark.parametrize("text", ["29", "31", "", "thirty", "-30", "30.0"])
    def test_wrong_n_frames(self, folder, text):
        (folder / "n_frames").write_text(text)
        assert_refused(folder, "n_frames", "30 frames")

    def test_no_n_frames(self, folder):
        (folder / "n_frames").unlink()
        assert verify_store(folder) == 30

    def edit(self, folder, sql, *values):
        with sqlite3.connect(folder / "frames.db") as connection:
            connection.execute(sql, values)
        connection.close()

    def test_missing_frame(self, folder):
        self.edit(folder, "DELETE FROM Images WHERE ObjId LIKE '%frame_00012'")
        assert_refused(folder, "frame_00012 is missing")

    def test_frame_twice(self, tmp_path, jpegs):
        write_legacy(tmp_path / "v", jpegs, order=[*range(30), 4])
        (tmp_path / "v" / "n_frames").unlink()
        assert_refused(tmp_path / "v", "frame_00005 is there twice")

    def test_no_frames(self, folder):
        self.edit(folder, "DELETE FROM Images")
        (folder / "n_frames").write_text("0")
        assert_refused(folder, "no frames")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda jpeg: jpeg[:-2], "truncated"),
            (lambda jpeg: jpeg[: len(jpeg) // 2], "truncated"),
            (lambda jpeg: jpeg[:-20] + b"\xff\xd9", "decoded"),
            (lambda jpeg: jpeg[:30] + b"\xff\xd9", "header"),
            (lambda jpeg: b"\x89PNG" + jpeg, "not a JPEG"),
            (lambda jpeg: b"", "not a JPEG"),
            (lambda jpeg: jpeg_of(1, 32, 64), "64x32"),
        ],
    )
    def test_bad_jpeg_behind_a_good_crc(self, folder, jpegs, change, reason):
        bad = change(jpegs[10])
        self.edit(folder, "UPDATE Images SET frames = ? WHERE ObjId LIKE '%frame_00011'", bad)
        if b"crc32" in (folder / "frames.db").read_bytes():
            crc = zlib.crc32(bad)
            self.edit(folder, "UPDATE Images SET crc32 = ? WHERE frame = 11", crc)
        assert_refused(folder, "frame_00011", reason)
        with FrameStore(folder) as store:
            assert store.read([9, 11]).shape[0] == 2
            with pytest.raises(DataError, match="frame_00011"):
                store.read([9, 10, 10, 11])

    def test_every_flipped_bit_of_a_frame_is_found(self, tmp_path, jpegs):
        write_store(tmp_path / "v", "v", jpegs)
        path = tmp_path / "v" / "frames.db"
        content = path.read_bytes()
        at = content.index(jpegs[20])
        rng = np.random.default_rng(1)
        for bit in rng.choice(len(jpegs[20]) * 8, 60, replace=False):
            flipped = bytearray(content)
            flipped[at + bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            assert_refused(tmp_path / "v", "frame_00021 is damaged")

    def test_bits_flipped_anywhere_are_found_or_harmless(self, tmp_path, jpegs):
        write_store(tmp_path / "v", "v", jpegs)
        path = tmp_path / "v" / "frames.db"
        content, rng = path.read_bytes(), np.random.default_rng(2)
        for bit in rng.choice(len(content) * 8, 150, replace=False):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                with FrameStore(tmp_path / "v") as store:
                    assert store.jpegs(range(30)) == jpegs
            except DataError as error:
                assert str(path) in str(error)


class TestWriting:
    def test_nothing_is_left_of_a_failure(self, tmp_path, jpegs):
        def broken():
            yield from jpegs[:5]
            raise OSError("the pipe broke")

        with pytest.raises(OSError, match="pipe"):
            write_store(tmp_path / "class" / "v", "v", broken())
        with pytest.raises(DataError, match=r"v/frame_00002 is a truncated JPEG"):
            write_store(tmp_path / "class" / "v", "v", [jpegs[0], jpegs[1][:-9]])
        with pytest.raises(DataError, match=r"class/v: no frames"):
            write_store(tmp_path / "class" / "v", "v", [])
        assert list((tmp_path / "class").iterdir()) == []

    def test_a_store_is_replaced_as_a_whole(self, folder, jpegs):
        with FrameStore(folder) as before:
            assert write_store(folder, folder.name, jpegs[:4]) == 4
            assert before.jpegs([29]) == [jpegs[29]]  # who has it open reads on
        assert verify_store(folder) == 4
        assert sorted(p.name for p in folder.iterdir()) == ["frames.db", "n_frames"]
        assert [p.name for p in folder.parent.iterdir()] == [folder.name]

    def test_upgrade(self, tmp_path, jpegs):
        rng = np.random.default_rng(3)
        folder = write_legacy(tmp_path / "v", jpegs, order=rng.permutation(30), count=False)
        assert upgrade_store(folder) and not upgrade_store(folder)
        with FrameStore(folder) as store:
            assert store.layout and store.jpegs(range(30)) == jpegs
        assert upgrade_store(folder, companions=[24]) and not upgrade_store(folder, companions=[24])
        with FrameStore(folder) as store:
            assert store.companions == (24,) and store.jpegs(range(30)) == jpegs

    def test_upgrade_leaves_a_damaged_store_alone(self, tmp_path, jpegs):
        folder = write_legacy(tmp_path / "v", [*jpegs[:3], jpegs[3][:-5]])
        before = (folder / "frames.db").read_bytes()
        with pytest.raises(DataError, match="frame_00004"):
            upgrade_store(folder)
        assert (folder / "frames.db").read_bytes() == before
        assert (folder / "n_frames").read_text() == "4"

    def test_kill_at_any_moment(self, tmp_path, jpegs):
        """A store that is rewritten without end, and killed: always one of the two versions."""
        folder = tmp_path / "v"
        write_store(folder, "v", jpegs)
        script = (
            "import sys; from data.store import *; f = sys.argv[1]; j = FrameStore(f)"
            ".jpegs(range(30)); print('go', flush=True)\n"
            "while True:\n    write_store(f, 'v', j[:20])\n    write_store(f, 'v', j)"
        )
        rng, seen = np.random.default_rng(4), set()
        for _ in range(12):
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(folder)],
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[1],
            )
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            n_frames = verify_store(folder)
            seen.add(n_frames)
            with FrameStore(folder) as store:
                assert store.jpegs(range(n_frames)) == jpegs[:n_frames]
            if n_frames != 30:
                write_store(folder, "v", jpegs)
        assert seen <= {20, 30}


def test_a_store_is_closed_at_the_end_of_with_and_can_be_closed_again(folder):
    with FrameStore(folder) as store:
        store.read([0])
    with pytest.raises(sqlite3.ProgrammingError):
        store.read([0])
    store.close()


def child_reads(folder, queue):
    store = open_store(folder)
    queue.put((id(store), store.read([5])[0, 0, 0].tolist()))


class TestOpenStores:
    def test_stay_open_and_bounded(self, tmp_path, jpegs, monkeypatch):
        monkeypatch.setattr("data.store.open_stores.OPEN_STORES", 3)
        folders = [tmp_path / str(i) for i in range(5)]
        for folder in folders:
            write_store(folder, folder.name, jpegs[:2])
        first = open_store(folders[0])
        assert open_store(folders[0]) is first
        for folder in folders[1:]:
            open_store(folder)
        with pytest.raises(sqlite3.ProgrammingError):
            first.jpegs([0])
        assert open_store(folders[0]).jpegs([1]) == [jpegs[1]]

    def test_not_shared_across_a_fork(self, folder):
        mine = open_store(folder)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        process = context.Process(target=child_reads, args=(folder, queue))
        process.start()
        theirs, pixel = queue.get(timeout=30)
        process.join()
        assert process.exitcode == 0 and theirs != id(mine)
        assert pixel == mine.read([5])[0, 0, 0].tolist()


SUMMARIES = {
    "one share only": ("knots", [0]),
    "a share above the whole": ("knots", [0, WHOLE + 1]),
    "a negative share": ("knots", [-1, WHOLE]),
    "a share that is not a whole number": ("knots", [0.5, WHOLE]),
    "shares that are not a list": ("knots", 7),
    "a place that ends before it starts": ("Images", [4097, 4096]),
    "a place of three numbers": ("Images", [4096, 8192, 8192]),
    "a place beyond any file": ("Images", [4096, 2**62]),
    "a negative place": ("Images", [-1, 4096]),
    "companions without a place": ("companions", [24]),
    "companions of a textual size": ("companions", ["24"]),
}


def with_summary(folder: Path, n_frames: int, places: dict) -> None:
    with sqlite3.connect(folder / "frames.db") as connection:
        connection.execute("DROP VIEW Summary")
        connection.execute(SUMMARY.format(n_frames, json.dumps(places)))
    connection.close()


@pytest.fixture
def places(tmp_path, jpegs) -> dict:
    write_store(tmp_path / "v", "v", jpegs)
    with sqlite3.connect(tmp_path / "v" / "frames.db") as connection:
        sql = "SELECT sql FROM sqlite_master WHERE name = 'Summary'"
        ((text,),) = connection.execute(sql).fetchall()
    connection.close()
    return json.loads(SUMMARY_PATTERN.fullmatch(text)[2])


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_summary_that_cannot_be_right_is_refused(tmp_path, places, name):
    part, value = SUMMARIES[name]
    with_summary(tmp_path / "v", 30, places)
    assert verify_store(tmp_path / "v") == 30
    with_summary(tmp_path / "v", 30, places | {part: value})
    assert_refused(tmp_path / "v", "damaged", "its summary is")


def test_summaries_at_the_bounds_are_taken(tmp_path, places):
    bounds = {"knots": [0, WHOLE], "Images": [0, 2**62 - 1]}
    with_summary(tmp_path / "v", 30, places | bounds)
    assert verify_store(tmp_path / "v") == 30
    with_summary(tmp_path / "v", 30, places | {"Images": [4096, 4096]})
    assert verify_store(tmp_path / "v") == 30


@pytest.mark.parametrize("layout", [1, LAYOUT + 1])
def test_unknown_layouts_are_refused(tmp_path, jpegs, layout):
    write_store(tmp_path / "v", "v", jpegs[:2])
    with sqlite3.connect(tmp_path / "v" / "frames.db") as connection:
        connection.execute(f"PRAGMA user_version = {layout}")
    connection.close()
    assert_refused(tmp_path / "v", f"layout {layout}" if layout > LAYOUT else f"layout is {layout}")


def test_a_legacy_store_with_the_largest_pages_that_is_cut_off_is_refused(tmp_path, jpegs):
    folder = write_legacy(tmp_path / "v", jpegs)
    connection = sqlite3.connect(folder / "frames.db", isolation_level=None)
    connection.executescript("PRAGMA page_size = 65536; VACUUM")
    connection.close()
    assert verify_store(folder) == 30
    content = (folder / "frames.db").read_bytes()
    (folder / "frames.db").write_bytes(content[:-1])
    assert_refused(folder, "is cut off", f"{len(content) - 1} of {len(content)} bytes")
