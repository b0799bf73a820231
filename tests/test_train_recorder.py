"""What a run writes down for people: its log, its configuration, its curves, TensorBoard."""

import json
import logging
import sys
from dataclasses import replace
from types import SimpleNamespace

import matplotlib.image
import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train.config import Config
from train.results.history import History
from train.results.log_file import LogFile, log_file
from train.results.recorder import Recorder, write_config
from train.results.results_folder import results_folder
from train.train_errors import TrainError

CONFIG = Config(network="r3d_18", optimiser="sgd", tensorboard=False)
SCORES = {
    "train": {"top1": 25.0, "top5": 75.0, "loss": 1.5, "clips": 8.0, "seconds": 9.5},
    "val": {"top1": 50.0, "top5": 100.0, "loss": 2.5, "clips": 4.0, "seconds": 1.5},
}
TIMES = {"seconds_left": 60.0, "best_top1": 50.0}


@pytest.fixture
def log():
    """A logger that writes everything to its handlers."""
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.INFO)
    yield logging.getLogger("train.test")
    root.setLevel(level)


def history_of(epochs: int, gates: dict[str, float]) -> History:
    history = History()
    for epoch in range(1, epochs + 1):
        scores = {part: {k: v + epoch for k, v in s.items()} for part, s in SCORES.items()}
        history.add_epoch(epoch, scores, lr=0.1, gates=gates, **TIMES)
    return history


def test_the_results_folder_is_named_after_network_gates_and_task():
    assert str(results_folder(CONFIG)) == "results/r3d_18_gates_False"
    config = replace(CONFIG, model_dir="here", gates=True, task_name="a")
    assert str(results_folder(config)) == "here/r3d_18_gates_True_a"


def test_config_json_has_options_command_versions_and_facts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run/train.py", "--task-name", "two words"])
    monkeypatch.setattr(sys, "executable", "/usr/bin/python")
    write_config(tmp_path, CONFIG, classes=["a", "b"])
    text = (tmp_path / "config.json").read_text()
    content = json.loads(text)
    assert content["options"]["network"] == "r3d_18"
    assert content["command"] == "python run/train.py --task-name 'two words'"
    assert content["classes"] == ["a", "b"]
    assert content["versions"]["python"] == sys.version.split()[0]
    assert content["versions"]["numpy"] and "torch" in content["versions"]
    assert text.splitlines()[1] == ' "options": {' and text.endswith("}\n")


def test_the_log_file_has_earlier_and_later_lines_without_colours(tmp_path, log):
    path = tmp_path / "train.log"
    path.write_text("an earlier run\n")
    handlers = list(logging.getLogger().handlers)
    with log_file() as write_to:
        log.info("before the folder")
        log.critical("before it, too")
        write_to(path)
        assert [line.split(" ", 3)[-1] for line in path.read_text().splitlines()[1:]] == [
            "before the folder", "before it, too",
        ]  # fmt: skip
        log.warning("speed \033[92m%s\033[0m of %s", 7, "caf\udce9")
        assert path.read_text().splitlines()[-1].endswith(r" WARNING speed 7 of caf\udce9")
    assert logging.getLogger().handlers == handlers
    log.warning("after it")
    assert len(path.read_text().splitlines()) == 4


def test_ten_thousand_lines_are_kept_until_there_is_a_folder(tmp_path, log):
    with log_file() as write_to:
        for number in range(10_005):
            log.info("line %d", number)
        write_to(tmp_path / "train.log")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert len(lines) == 10_005 and lines[-1].endswith("line 10004")


def test_a_run_that_ends_before_it_has_a_folder_writes_no_log(tmp_path, log):
    with log_file():
        log.info("nobody reads this")
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_is_said_once(log, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        # a command that another test has called in this process may have left its handler
        patched.setattr(logging.getLogger(), "handlers", [])
        with log_file() as write_to:
            write_to("/dev/full")
            log.info("one")
            log.info("two")
        said = capsys.readouterr().err
        assert said == "warning: /dev/full: No space left on device; lines are missing\n"


def test_a_mistake_in_a_log_line_keeps_its_traceback(tmp_path, capsys):
    handler = LogFile(tmp_path / "train.log")
    handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("not a number",)}))
    handler.close()
    assert "TypeError" in capsys.readouterr().err


def drawn_by(monkeypatch, recorder: Recorder) -> Figure:
    """The figure that a recorder saves as curves.png."""
    figures, usual = [], Figure.savefig
    with monkeypatch.context() as patched:
        patched.setattr(
            Figure, "savefig", lambda self, *a, **k: (figures.append(self), usual(self, *a, **k))
        )
        recorder.draw()
    return figures[0]


def test_the_curves_show_each_part_of_the_history(tmp_path, monkeypatch):
    history = history_of(3, {"layer1.0": 0.5, "layer2.1": 0.25})
    recorder = Recorder(tmp_path, CONFIG, history, first_epoch=1)
    figure = drawn_by(monkeypatch, recorder)
    assert [axis.get_title() for axis in figure.axes] == [
        "Loss", "Top1 (%)", "Top5 (%)", "gates open",
    ]  # fmt: skip
    lines = {
        (axis.get_title(), line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))
        for axis in figure.axes
        for line in axis.get_lines()
    }
    assert lines == {
        ("Loss", "training"): ([1, 2, 3], [2.5, 3.5, 4.5]),
        ("Loss", "validation"): ([1, 2, 3], [3.5, 4.5, 5.5]),
        ("Top1 (%)", "training"): ([1, 2, 3], [26, 27, 28]),
        ("Top1 (%)", "validation"): ([1, 2, 3], [51, 52, 53]),
        ("Top5 (%)", "training"): ([1, 2, 3], [76, 77, 78]),
        ("Top5 (%)", "validation"): ([1, 2, 3], [101, 102, 103]),
        ("gates open", "layer1.0"): ([1, 2, 3], [0.5] * 3),
        ("gates open", "layer2.1"): ([1, 2, 3], [0.25] * 3),
    }
    for axis in figure.axes:
        assert axis.get_xlabel() == "epoch" and axis.get_legend()
        assert all(tick == int(tick) for tick in axis.get_xticks())
        assert axis.get_xgridlines()[0].get_visible()
    assert all(line.get_marker() == "." for line in figure.axes[0].get_lines())
    height, width, _ = matplotlib.image.imread(tmp_path / "curves.png").shape
    assert (height, width) == (396, 1848)  # one row of four panels


def test_a_single_epoch_without_gates_has_three_panels_and_whole_numbers(tmp_path, monkeypatch):
    figure = drawn_by(monkeypatch, Recorder(tmp_path, CONFIG, history_of(1, {}), first_epoch=1))
    assert len(figure.axes) == 3
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())


def test_a_block_that_has_gates_since_a_later_epoch_is_drawn(tmp_path, monkeypatch):
    history = history_of(1, {"layer1.0": 0.5})
    history.add_epoch(2, SCORES, lr=0.1, gates={"layer1.0": 0.5, "layer2.1": 0.25}, **TIMES)
    figure = drawn_by(monkeypatch, Recorder(tmp_path, CONFIG, history, first_epoch=2))
    assert [line.get_label() for line in figure.axes[3].get_lines()] == ["layer1.0", "layer2.1"]


def test_csv_files_that_an_earlier_run_could_not_write_are_written_at_once(tmp_path):
    Recorder(tmp_path, CONFIG, history_of(2, {}), first_epoch=3)
    assert (tmp_path / "val_results.csv").read_text().splitlines()[-1].startswith("2,52,")


def epoch_written(recorder: Recorder, epoch: int, *, draw: bool = True) -> None:
    speeds = {"forward": 30.0 + epoch}
    recorder.write_epoch(epoch, SCORES, lr=0.1, gates={"layer1.0": 0.5}, speeds=speeds, draw=draw)


def test_curves_that_wait_are_drawn_when_the_run_ends_in_any_way(tmp_path):
    history = history_of(1, {})
    recorder = Recorder(tmp_path, CONFIG, history, first_epoch=1)
    epoch_written(recorder, 1, draw=False)
    assert (tmp_path / "train_results.csv").exists() and not (tmp_path / "curves.png").exists()
    recorder.close()
    assert (tmp_path / "curves.png").exists()
    (tmp_path / "curves.png").unlink()
    Recorder(tmp_path, CONFIG, history, first_epoch=2).close()  # nothing waits
    assert not (tmp_path / "curves.png").exists()


EXPECTED = {
    "train/top1": 25.0, "train/top5": 75.0, "train/loss": 1.5, "val/top1": 50.0, "val/top5": 100.0,
    "val/loss": 2.5, "lr": 0.1, "gates/layer1.0": 0.5, "clips_per_second/forward": 33.0,
}  # fmt: skip


def test_tensorboard_gets_every_number_of_an_epoch_and_forgets_what_is_trained_again(tmp_path):
    def read() -> EventAccumulator:
        return EventAccumulator(str(tmp_path / "tensorboard")).Reload()

    config = replace(CONFIG, tensorboard=True)
    history = history_of(1, {})
    recorder = Recorder(tmp_path, config, history, first_epoch=1)
    history.add_epoch(3, SCORES, lr=0.1, gates={"layer1.0": 0.5}, **TIMES)
    epoch_written(recorder, 3)
    found = read()  # each epoch is there at once, before the end
    assert sorted(found.Tags()["scalars"]) == sorted(EXPECTED)
    for name, value in EXPECTED.items():
        (scalar,) = found.Scalars(name)
        assert scalar.step == 3 and scalar.value == pytest.approx(value)
    assert (tmp_path / "train_results.csv").read_text().splitlines()[
        -1
    ] == "3,25,75,1.5,0.1,8,9.5,60,50"
    assert (tmp_path / "curves.png").exists()
    recorder.close()
    again = Recorder(tmp_path, config, history, first_epoch=2)
    epoch_written(again, 2)
    again.close()
    assert [scalar.step for scalar in read().Scalars("lr")] == [2]


def test_nothing_goes_to_tensorboard_where_it_is_off(tmp_path):
    recorder = Recorder(tmp_path, CONFIG, history_of(1, {}), first_epoch=1)
    epoch_written(recorder, 1)
    recorder.close()
    assert not (tmp_path / "tensorboard").exists()


def test_weights_and_biases_gets_the_project_the_options_and_each_epoch(tmp_path, monkeypatch):
    calls = []
    run = SimpleNamespace(
        log=lambda scalars, step: calls.append((scalars, step)),
        finish=lambda: calls.append("finished"),
    )
    stand_in = SimpleNamespace(init=lambda **words: calls.append(words) or run)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    config = replace(CONFIG, wandb="actions")
    recorder = Recorder(tmp_path, config, history_of(1, {}), first_epoch=1)
    epoch_written(recorder, 3)
    recorder.close()
    words, epoch, end = calls
    assert (words["project"], words["resume"]) == ("actions", "allow")
    assert words["config"]["network"] == "r3d_18"
    assert epoch == (EXPECTED, 3) and end == "finished"


def test_weights_and_biases_without_its_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrainError, match="pip install wandb"):
        Recorder(tmp_path, replace(CONFIG, wandb="a"), History(), first_epoch=1)
