"""Attacks on frame stores: flipped bits, damaged pages, odd files, replacement while they are read.

What is promised: a store in our layout gives its frames, or an error of one line that names the
file; it never gives other frames, hangs or crashes.
"""

import os
import signal
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from test_data_frames import jpeg_of, write_layout_2, write_legacy

from data.data_error import DataError
from data.store import FrameStore, upgrade_store, verify_store, write_store
from data.store.jpeg import MOST_PIXELS, BadJpeg, decode_jpegs

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parent.parent
N = 24
NEVER_WRONG = "a store in our layout never gives wrong frames"


@pytest.fixture(scope="module")
def jpegs() -> list[bytes]:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(N)]
    return [
        simplejpeg.encode_jpeg(cv2.resize(image, (96, 72)), quality=85, colorsubsampling="420")
        for image in images
    ]


class Store:
    """A whole store with two sizes of companions, to be damaged, and what it must give."""

    def __init__(self, folder: Path, jpegs: list[bytes]):
        write_store(folder, folder.name, jpegs, companions=[24, 40])
        self.folder, self.path, self.jpegs = folder, folder / "frames.db", jpegs
        self.content, self.count = self.path.read_bytes(), (folder / "n_frames").read_text()
        self.smaller = self.read_smaller()

    def read_smaller(self) -> list[bytes]:
        with FrameStore(self.folder) as store:
            return [store.read_at_least(range(N), side).tobytes() for side in (24, 40, 60)]

    def outcome(self, content: bytes, *, with_count: bool = True) -> str:
        """What becomes of other bytes: "read", "refused", or in which way the promise is broken."""
        self.path.write_bytes(content)
        if with_count:
            (self.folder / "n_frames").write_text(self.count)
        else:
            (self.folder / "n_frames").unlink(missing_ok=True)
        try:
            with FrameStore(self.folder) as store:
                if store.n_frames != N:
                    return f"{store.n_frames} frames"
                # frame by frame too: searches for one key may end elsewhere than those for many
                single = [store.jpegs([index])[0] for index in range(N)]
                if store.jpegs(range(N)) != self.jpegs or single != self.jpegs:
                    return "other frames"
                if store.companions == (24, 40) and self.read_smaller() != self.smaller:
                    return "other companions"
        except DataError as error:
            message = str(error)
            return "refused" if str(self.folder) in message and "\n" not in message else message
        except Exception as error:
            return repr(error)
        return "read"


@pytest.fixture
def store(tmp_path, jpegs) -> Store:
    return Store(tmp_path / "v", jpegs)


def flipped(content: bytes, *bits: int) -> bytes:
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_flipped_bits(store, trials):
    trial = trials(NEVER_WRONG, "one flipped bit anywhere in frames.db")
    bits = np.random.default_rng(1).choice(len(store.content) * 8, 2000, replace=False)
    for number, bit in enumerate(bits[: trial.number(100, 2000)].tolist()):
        outcome = store.outcome(flipped(store.content, bit), with_count=number % 2 == 0)
        trial.add(outcome in ("read", "refused"), (bit, outcome))


def test_flipped_bits_of_the_header(store, trials):
    trial = trials(NEVER_WRONG, "one flipped bit in the header of frames.db")
    for bit in range(0, 800, trial.number(16, 1)):
        outcome = store.outcome(flipped(store.content, bit))
        trial.add(outcome in ("read", "refused"), (bit, outcome))


def test_flipped_bits_where_the_keys_are(store, trials):
    trial = trials(NEVER_WRONG, "one flipped bit in the tables' pages outside of the JPEGs")
    # the schema on the first page, and the first bytes of each cell on the others
    places = list(range(100, 4096))
    pages = [p for p in range(4096, len(store.content), 4096) if store.content[p] in (5, 13)]
    for page in pages:
        (cells,) = struct.unpack_from(">H", store.content, page + 3)
        header = 12 if store.content[page] == 5 else 8
        pointers = struct.unpack_from(f">{cells}H", store.content, page + header)
        places += range(page, page + header + 2 * cells)
        places += [page + at + byte for at in pointers for byte in range(16)]
    bits = np.random.default_rng(2).permutation(len(places) * 8)[: trial.number(150, 5000)]
    for bit in bits.tolist():
        at = places[bit // 8] * 8 + bit % 8
        outcome = store.outcome(flipped(store.content, at), with_count=bit % 2 == 0)
        trial.add(outcome in ("read", "refused"), (at, outcome))


def mutated_page(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one page damaged, in one of five ways."""
    pages = [content[at : at + 4096] for at in range(0, len(content), 4096)]
    number, how = rng.integers(len(pages)), rng.integers(5)
    page = bytearray(pages[number])
    start, length = rng.integers(4096), rng.integers(1, 64)
    if how == 0:
        page[start : start + length] = rng.bytes(len(page[start : start + length]))
    elif how == 1:
        page[start : start + length] = bytes(len(page[start : start + length]))
    elif how == 2:
        page = pages[rng.integers(len(pages))]
    elif how == 3:
        page = bytes(4096)
    else:
        for at in rng.integers(4096, size=4):
            page[at] = rng.integers(256)
    pages[number] = bytes(page)
    return b"".join(pages)


def test_damaged_pages(store, trials):
    trial = trials(NEVER_WRONG, "one page of frames.db overwritten, swapped or zeroed")
    rng = np.random.default_rng(3)
    for number in range(trial.number(150, 4000)):
        outcome = store.outcome(mutated_page(store.content, rng), with_count=number % 2 == 0)
        trial.add(outcome in ("read", "refused"), (number, outcome))


def test_replaced_while_it_is_opened(tmp_path, jpegs, trials):
    trial = trials("a store that is replaced meanwhile is opened", "other numbers of frames")
    folder = tmp_path / "v"
    write_store(folder, "v", jpegs)
    script = (
        "import sys; from data.store import FrameStore, write_store; f = sys.argv[1]\n"
        "j = FrameStore(f).jpegs(range(24)); print('go', flush=True)\n"
        "while True:\n    write_store(f, 'v', j[:20])\n    write_store(f, 'v', j)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert writer.stdout.readline() == b"go\n"
        for _ in range(trial.number(400, 8000)):
            try:
                with FrameStore(folder) as store:
                    n = store.n_frames
                    trial.add(n in (20, 24) and store.jpegs(range(n)) == jpegs[:n], n)
            except DataError as error:
                trial.add(False, error)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_mutated_jpegs(jpegs, trials):
    trial = trials("a damaged JPEG is an error or an image", "flipped, cut, spliced JPEGs")
    rng = np.random.default_rng(4)
    for number in range(trial.number(500, 10_000)):
        jpeg, other = jpegs[number % N], jpegs[rng.integers(N)]
        how = rng.integers(4)
        if how == 0:
            bad = flipped(jpeg, *rng.integers(len(jpeg) * 8, size=rng.integers(1, 9)).tolist())
        elif how == 1:
            bad = jpeg[: rng.integers(len(jpeg))] + b"\xff\xd9"
        elif how == 2:
            cut = rng.integers(len(jpeg))
            bad = jpeg[:cut] + other[cut:]
        else:  # in the headers, where sizes, tables and numbers of components are
            bad = flipped(jpeg, *rng.integers(300 * 8, size=2).tolist())
        try:
            frames = decode_jpegs([jpeg, bad], int(rng.integers(0, 40)))
            trial.add(frames.dtype == np.uint8 and len(frames) == 2)
        except (BadJpeg, MemoryError) as error:
            trial.add("\n" not in str(error) and not isinstance(error, MemoryError), error)


# Classes of bad input, each with its message.


def edit(folder: Path, sql: str, *values) -> None:
    with sqlite3.connect(folder / "frames.db") as connection:
        connection.executescript(sql) if not values else connection.execute(sql, values)
    connection.close()


def rewrite_schema(folder: Path, name: str, old: str, new: str) -> None:
    edit(
        folder,
        "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = "
        f"replace(sql, '{old}', '{new}') WHERE name = '{name}'; PRAGMA writable_schema=OFF",
    )


ENDLESS = (
    "ALTER TABLE Images RENAME TO Hidden; CREATE VIEW Images AS WITH RECURSIVE n(i) AS "
    "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS ObjId, 'x' AS frames, 1 AS size, "
    "i AS frame, i AS crc32 FROM n"
)


def foreign(folder: Path) -> None:
    (folder / "frames.db").unlink()
    edit(folder, "CREATE TABLE Other(a)")


def replaced_by(make):
    def change(folder: Path) -> None:
        (folder / "frames.db").unlink()
        make(folder / "frames.db")

    return change


def bytes_of(change):
    def apply(folder: Path) -> None:
        path = folder / "frames.db"
        path.write_bytes(change(path.read_bytes()))

    return apply


BAD_STORES = {
    "missing": (lambda f: (f / "frames.db").unlink(), "no such file"),
    "a folder": (replaced_by(Path.mkdir), "cannot be read (Is a directory)"),
    "a named pipe": (replaced_by(os.mkfifo), "is empty"),
    "a dangling link": (replaced_by(lambda p: p.symlink_to("nowhere")), "no such file"),
    "empty": (bytes_of(lambda data: b""), "is empty (0 bytes)"),
    "text": (bytes_of(lambda data: b"hello" * 1000), "is not a SQLite file"),
    "half": (bytes_of(lambda data: data[: len(data) // 2]), "is cut off"),
    "another database": (foreign, "no such table: Images"),
    "endless view": (lambda f: edit(f, ENDLESS), "Images is not a table of rows"),
    "another version's": (lambda f: edit(f, "PRAGMA user_version=9"), "has layout 9"),
    "a layout of no release": (lambda f: edit(f, "PRAGMA user_version=1"), "its layout is 1"),
    "layout 0 in the header": (lambda f: edit(f, "PRAGMA user_version=0"), "its layout is 0"),
    "no checksum": (lambda f: edit(f, "UPDATE Images SET crc32 = NULL"), "crc32 is missing"),
    "checksum as text": (lambda f: edit(f, "UPDATE Images SET crc32 = 'x'"), "crc32 differs"),
    "no column of checksums": (
        lambda f: rewrite_schema(f, "Images", "crc32", "crc33"),
        "Images has the columns",
    ),
    "frames as text": (lambda f: edit(f, "UPDATE Images SET frames = 'x'"), "is not a JPEG, but"),
    "a summary of words": (
        lambda f: rewrite_schema(f, "Summary", "[24,40]", '["x"]'),
        "its summary is",
    ),
    "a summary of other tables": (
        lambda f: rewrite_schema(f, "Summary", "[24,40]", "[24,41]"),
        "its summary is",
    ),
    "a summary that computes": (
        lambda f: rewrite_schema(f, "Summary", "SELECT 24", "SELECT 20 + 4"),
        "its summary is",
    ),
    "frames swapped": (
        lambda f: edit(
            f,
            "UPDATE Images SET frame = -1 WHERE frame = 3; UPDATE Images SET frame = 3 WHERE "
            "frame = 4; UPDATE Images SET frame = 4 WHERE frame = -1",
        ),
        "its row is named 'v/frame_00004'",
    ),
    "companions swapped": (
        lambda f: edit(
            f,
            "UPDATE Companions24 SET frame = -1 WHERE frame = 3; UPDATE Companions24 SET frame = 3 "
            "WHERE frame = 4; UPDATE Companions24 SET frame = 4 WHERE frame = -1",
        ),
        "frame_00003 is damaged",
    ),
    "one frame fewer": (
        lambda f: edit(f, "DELETE FROM Images WHERE frame = 5"),
        "frame_00005 is missing",
    ),
}


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        verify_store(folder)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message and len(message) < 400
    return message


def test_each_bad_store_is_one_line(tmp_path, jpegs, trials):
    trial = trials("bad input is one line that says what is wrong", "classes of bad stores")
    for number, (name, (change, words)) in enumerate(BAD_STORES.items()):
        store = Store(tmp_path / str(number) / "v", jpegs)
        change(store.folder)
        message = refusal(store.folder)
        trial.add(words in message, (name, message))


def with_size(jpeg: bytes, height: int, width: int) -> bytes:
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


BAD_IMAGES = {
    "no bytes": (lambda jpeg: b"", "is not a JPEG"),
    "a PNG": (lambda jpeg: cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes(), "not a"),
    "cut": (lambda jpeg: jpeg[:-40], "is a truncated JPEG"),
    "cut, with an end marker": (lambda jpeg: jpeg[:-400] + b"\xff\xd9", "cannot be decoded"),
    "only the markers": (lambda jpeg: b"\xff\xd8\xff\xd9", "has a broken JPEG header"),
    "no tables": (lambda jpeg: jpeg[:2] + jpeg[jpeg.index(b"\xff\xc0") :], "be decoded"),
    "20000 x 20000": (lambda jpeg: with_size(jpeg, 20_000, 20_000), "says that it is 20000x"),
    "no height": (lambda jpeg: with_size(jpeg, 0, 96), "has a broken JPEG header"),
    "another size": (lambda jpeg: jpeg_of(1, 32, 64), "other frames are"),
}


def test_each_bad_image_is_one_line(tmp_path, jpegs, trials):
    trial = trials("bad input is one line that says what is wrong", "classes of bad images")
    for name, (change, words) in BAD_IMAGES.items():
        for place in (0, 7):
            stored = [*jpegs]
            stored[place] = change(stored[place])
            message = refusal(write_legacy(tmp_path / f"{name} {place}", stored))
            trial.add(words in message and "/frames.db: frame_0000" in message, (name, message))


def test_a_size_is_refused_before_anything_is_allocated(jpegs):
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for jpeg_list in (
        [with_size(jpegs[0], 20_000, 20_000)] * 16,
        [jpegs[0], with_size(jpegs[1], 65_500, 65_500)],
    ):
        with pytest.raises(BadJpeg, match=f"{MOST_PIXELS:,} pixels"):
            decode_jpegs(jpeg_list)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100_000  # KiB


BAD_COUNTS = {
    "another number": (b"23", "says '23', but frames.db holds 24 frames"),
    "text": (b"many", "says 'many'"),
    "empty": (b"", "says ''"),
    "negative": (b"-24", "says '-24'"),
    "5,000 digits": (b"9" * 5000, "says '99999999999999999999'"),
    "not text": (b"\xff\x00\xfe", "but frames.db holds 24 frames"),
    "a folder": (None, "cannot be read (Is a directory)"),
}


def test_each_bad_n_frames_is_one_line(tmp_path, jpegs, trials):
    trial = trials("bad input is one line that says what is wrong", "classes of bad n_frames")
    for number, (name, (content, words)) in enumerate(BAD_COUNTS.items()):
        store = Store(tmp_path / str(number) / "v", jpegs)
        path = store.folder / "n_frames"
        path.unlink()
        path.mkdir() if content is None else path.write_bytes(content)
        message = refusal(store.folder)
        trial.add(words in message, (name, message))


def test_old_layouts_are_read_to_the_bit(tmp_path, jpegs, trials):
    trial = trials("older stores are read to the bit", "layouts 0 and 2, rows in any order")
    expected = decode_jpegs(jpegs)
    for number in range(trial.number(3, 60)):
        rng, folder = np.random.default_rng(number), tmp_path / str(number)
        if number % 2 == 0:
            write_legacy(folder, jpegs, order=rng.permutation(N), count=number % 4 == 0)
        else:
            write_layout_2(folder, jpegs, companion=24)
        with FrameStore(folder) as store:
            same = store.jpegs(range(N)) == jpegs
            trial.add(same and np.array_equal(store.read(range(N)), expected), number)
        assert upgrade_store(folder)
        with FrameStore(folder) as store:
            trial.add(store.layout == 3 and store.jpegs(range(N)) == jpegs, number)


def test_an_upgrade_finds_what_decoding_shows(tmp_path, jpegs):
    damaged = [*jpegs]
    damaged[9] = jpegs[9][:-400] + jpegs[9][-200:]  # its start, header and end are whole
    folder = write_legacy(tmp_path / "v", damaged)
    before = (folder / "frames.db").read_bytes()
    with pytest.raises(DataError, match="frame_00010 cannot be decoded"):
        upgrade_store(folder)
    assert (folder / "frames.db").read_bytes() == before


def test_a_named_pipe_does_not_hang(store):
    """Also as n_frames; a reader that waits for a writer would be killed by the alarm."""
    (store.folder / "n_frames").unlink()
    os.mkfifo(store.folder / "n_frames")
    signal.alarm(60)
    try:
        assert "says ''" in refusal(store.folder)
    finally:
        signal.alarm(0)
