"""The command line: the original's options under their names, one-line errors, exit codes."""

import errno
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.data_error import DataError
from network.network_error import NetworkError
from run.command_line import boolean, build_parser, parse_config
from run.exit_codes import command
from train.train_errors import DivergedError, Interrupted, TrainError

ROOT = Path(__file__).parent.parent
SCRIPTS = ("hacs", "kinetics", "mit", "ucf101", "hmdb51", "diving48")
ORIGINAL = {
    "debug-mode": "True", "dataset": "/d", "clip-length": "8", "clip-size": "112",
    "train-frame-interval": "2", "val-frame-interval": "2", "task-name": "x", "model-dir": "/m",
    "log-file": "l.log", "gpus": "0", "network": "r3d_18", "pretrained-3d": "x.pth",
    "fine-tune": "True", "resume-epoch": "2", "batch-size": "4", "long-cycles": "False",
    "short-cycles": "False", "lr-base": "0.1", "lr-steps": "40,60,75", "lr-factor": "0.1",
    "save-frequency": "1", "end-epoch": "9", "random-seed": "3",
}  # fmt: skip


@pytest.mark.parametrize("dataset", SCRIPTS)
@pytest.mark.parametrize("style", ["-", "_"])
def test_every_option_of_the_original_parses(dataset, style):
    words = []
    for name, value in ORIGINAL.items():
        words += [f"--{name.replace('-', style)}", value]
    config = parse_config(dataset, words)
    assert (config.clip_size, config.lr_steps, config.long_cycles) == (112, [40, 60, 75], False)
    assert (config.fine_tune, config.debug_mode, config.random_seed) == (True, True, 3)


@pytest.mark.parametrize(
    ("script", "command_line"),
    [
        ("hacs", "--network srtg_r3d_34 --dataset /media/usr/m2ssd_vol1/data/HACS_videos/ "
         "--clip-size 324 --gpus 4 --lr-base 0.1 --batch-size 48"),
        ("hacs", "--network srtg_r3d_50 --dataset /media/usr/m2ssd_vol1/data/HACS_videos/ "
         "--clip-size 256 --gpus 4 --pretrained_3d "
         "results/HACS/srtg_r3d_50_gates_False/srtg_r3d_50_ep-0020.pth --resume-epoch 21 "
         "--lr-base 0.1 --batch-size 32"),
        ("kinetics", "--network srtg_r3d_34 --dataset /media/usr/m2ssd_vol1/data/Kinetics_videos/ "
         "--variant 700 --clip-size 224 --gpus 4 --pretrained_3d "
         "results/HACS/srtg_r3d_34_gates_False/srtg_r3d_34_ep-0080.pth --fine-tune True "
         "--lr-base 0.1 --batch-size 48"),
    ],
)  # fmt: skip
def test_the_originals_example_commands_parse(script, command_line):
    config = parse_config(script, shlex.split(command_line))
    assert config.gpus == 4 and config.lr_base == 0.1
    assert config.model_dir == ("results/HACS" if script == "hacs" else "results/KINETICS-700")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--lr-steps", "40,60,75"], [40, 60, 75]),
        (["--lr-steps", "40", "60", "75"], [40, 60, 75]),
        (["--lr-steps", "[40,", "60]"], [40, 60]),
        (["--lr_steps=7"], [7]),
    ],
)
def test_lists(words, expected):
    assert parse_config("ucf101", ["--dataset", "/d", *words]).lr_steps == expected


@pytest.mark.parametrize("text", ["True", "true", "1", "yes"])
def test_booleans_that_are_true(text):
    assert boolean(text) is True
    assert parse_config("ucf101", ["--dataset", "/d", "--gates", text]).gates is True


def test_a_boolean_alone_is_true_and_nothing_else_is_taken_for_one():
    assert parse_config("ucf101", ["--dataset", "/d", "--gates"]).gates is True
    with pytest.raises(SystemExit) as stop:
        parse_config("ucf101", ["--dataset", "/d", "--gates", "maybe"])
    assert stop.value.code == 2


def test_defaults_are_the_datasets():
    kinetics = parse_config("kinetics", ["--dataset", "/d"])
    assert (kinetics.lr_base, kinetics.lr_steps) == (0.05, [40, 70, 95])
    assert (kinetics.train_frame_interval, kinetics.val_frame_interval) == ([4, 5, 6], 5)
    hacs = parse_config("hacs", ["--dataset", "/d"])
    assert (hacs.batch_size, hacs.clip_size, hacs.end_epoch) == (48, 284, 120)


@pytest.mark.parametrize("variant", [200, 400, 600, 700])
def test_variants(variant):
    config = parse_config("kinetics", ["--dataset", "/d", "--variant", str(variant)])
    assert config.model_dir == f"results/KINETICS-{variant}"
    with pytest.raises(DataError, match="200, 400, 600, 700"):
        parse_config("kinetics", ["--dataset", "/d", "--variant", "500"])


def test_help_groups_the_options_and_shows_defaults():
    text = build_parser("ucf101").format_help()
    for group in ("data:", "network:", "schedule:", "optimisation:", "machine:"):
        assert group in text
    assert re.search(r"--clip-size N\s.*?\(default:\s+256\)", text, re.S)
    assert "SUPPRESS" not in text


def test_an_unknown_option_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_config("ucf101", ["--dataset", "/d", "--clip-sise", "3"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert error.startswith("error: ") and "--clip-size" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--resume", "auto", "--resume-epoch", "2"], "exclude each other"),
        (["--resume", "auto", "--overwrite", "True"], "--overwrite starts anew"),
        (["--resume-epoch", "2", "--overwrite", "True"], "--overwrite starts anew"),
        (["--on-nan", "skip"], "--on-nan skip"),
    ],
)
def test_combinations_that_make_no_sense(words, said):
    with pytest.raises(TrainError, match=said):
        parse_config("ucf101", ["--dataset", "/d", *words])


def fail_with(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "start"),
    [
        (DataError("x.csv:3: has\nno label"), 2, "error: x.csv:3: has no label\n"),
        (NetworkError("unknown network"), 2, "error: "),
        (TrainError("no value"), 2, "error: "),
        (OSError(errno.ENOSPC, "No space left", "a.pth"), 2, "error: a.pth: No space left\n"),
        (PermissionError(errno.EACCES, "Permission denied"), 2, "error: Permission denied\n"),
        (DivergedError("the loss is nan"), 3, "error: the loss is nan"),
        (Interrupted(signal.SIGTERM), 143, "interrupted: "),
        (Interrupted(signal.SIGINT), 130, "interrupted: "),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(error, code, start, capsys):
    assert command(fail_with(error)) == code
    assert capsys.readouterr().err.startswith(start)


FILE_ERRORS = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT,
    errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV,
    errno.ETXTBSY, errno.EBUSY, errno.ENOTEMPTY, errno.EINVAL, errno.EOVERFLOW,
)  # fmt: skip


@pytest.mark.fault
def test_any_error_of_a_user_s_file_is_one_line_that_names_it(capsys, trials):
    trial = trials("an error of a file is one line that names it", "each error number")
    for number in FILE_ERRORS:
        for path in ("results/x/last.pth", b"results/x/last.pth", Path("/d/jpg/a/b/frames.db")):
            code = command(fail_with(OSError(number, os.strerror(number), path)))
            said = capsys.readouterr().err
            line = f"error: {os.fsdecode(path)}: {os.strerror(number)}\n"
            trial.add(code == 2 and said == line, (number, path, said))


def test_real_errors_of_files_are_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for wrong in ("gone", "file/below", "circle", "x" * 300, "."):
        path = tmp_path / wrong
        assert command(lambda path=path: path.read_text()) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {path}: ") and said.count("\n") == 1


def test_our_own_failures_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        command(lambda: 1 / 0)
    with pytest.raises(OSError, match="Input/output"):
        command(fail_with(OSError(errno.EIO, "Input/output error")))  # of no file
    with pytest.raises(ConnectionRefusedError):
        command(fail_with(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")))
    with pytest.raises(OSError, match="no number"):
        command(fail_with(OSError("no number")))
    with pytest.raises(FileNotFoundError):  # a file that a package should have brought along
        command(lambda: Path(pytest.__file__).with_name("none.json").read_text())


@pytest.mark.parametrize("dataset", [*SCRIPTS, "custom"])
def test_the_scripts_start(dataset):
    answer = subprocess.run(
        [
            sys.executable,
            str(ROOT / f"train_{dataset}.py"),
            "--dataset",
            "/no/such",
            "--labels",
            "/n",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in answer.stderr
