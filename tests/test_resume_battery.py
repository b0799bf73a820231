"""The battery of resuming: from every step of a run, after many kills, with a rank that is gone."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress

import pytest
from runs import (
    STATE,
    as_ranks,
    assert_same_results,
    command,
    folder,
    start,
    train,
    train_until,
    without_times,
)

import train.loop as engine
from data.clips.clip_dataset import ClipDataset
from run.command_line import parse_config
from train import epoch_end
from train.checkpoint.opening import load_checkpoint
from train.rank_agreement import digest

pytestmark = pytest.mark.fault

# batches of two clips, seven a step an epoch, saved after every step
SMALL = "--clip-size 16 --clip-length 2 --batch-size 2 --bn-clips 2 --multigrid off --workers 0"
WORDS = [*SMALL.split(), "--save-steps", "1", "--tensorboard", "False", "--micro-batch", "2"]
WORDS += ["--epoch-save-seconds", "0"]


class Enough(BaseException):
    """Ends a run in this process as abruptly as it can be done."""


class Watched:
    """A run in this process: the digest of all that it saves, the clips it asks for, in order."""

    def __init__(self, monkeypatch, words, out, *, keep=None, most=None):
        self.saved, self.clips, self.steps = [], [], []

        def watch(name):
            save = getattr(epoch_end, name)

            def saving(where, *rest, **options):
                save(where, *rest, **options)
                state = without_times(rest[-1])
                if keep is not None:
                    os.link(folder(out) / "last.pth", keep / f"{len(self.saved)}.pth")
                self.saved.append(digest({part: state[part] for part in STATE}))
                self.steps.append(state["step"])
                if len(self.saved) == most:
                    raise Enough

            return saving

        read = ClipDataset.__getitem__

        def reading(clips, request):
            if clips.training:
                self.clips.append(request)
            return read(clips, request)

        with monkeypatch.context() as patched:
            for name in ("save_checkpoint", "save_epoch"):
                patched.setattr(epoch_end, name, watch(name))
            patched.setattr(ClipDataset, "__getitem__", reading)
            with suppress(Enough):
                engine.train(parse_config("custom", words))


def test_resuming_from_any_step_gives_the_next_one_to_the_bit(tiny, tmp_path, monkeypatch, trials):
    """A run saves after every step; from each of these a run is resumed until it saves once.

    That gives what the uninterrupted run saved next: step by step, the whole run. The clips that
    it asks for, and the order in which it does, are those of the uninterrupted run.
    """
    trial = trials(
        "a resumed run takes the same clips in the same order to the same bits",
        "resuming from every save of a run of 40 steps",
    )
    epochs = trial.number(2, 6)

    def words(out):
        return command(tiny, out, *WORDS, "--end-epoch", str(epochs), "--resume", "auto")[2:]

    states, out = tmp_path / "states", tmp_path / "whole"
    states.mkdir()
    whole = Watched(monkeypatch, words(out), out, keep=states)
    assert (
        max(whole.steps) == 7 * epochs and len(whole.saved) == len(set(whole.saved)) == 8 * epochs
    )
    points = range(len(whole.saved) - 1)
    # save 14 lies between the last step of an epoch and its end
    for at in sorted({14, *random.Random(0).sample(points, trial.number(1, len(points)))}):
        out = tmp_path / str(at)
        folder(out).mkdir(parents=True)
        shutil.move(states / f"{at}.pth", folder(out) / "last.pth")
        resumed = Watched(monkeypatch, words(out), out, most=1)
        asked = whole.clips[2 * whole.steps[at] :][: len(resumed.clips)]
        trial.add(resumed.saved == [whole.saved[at + 1]] and resumed.clips == asked, f"save {at}")
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_run_can_be_killed_three_times(tiny, tmp_path, trials):
    trial = trials(
        "a run that is killed and resumed gives what it would have given, to the bit",
        "three SIGKILLs at any moment, then resuming to the end",
    )
    words = [*WORDS, "--resume", "auto"]
    assert train(tiny, tmp_path / "whole", *words).returncode == 0
    for number in range(trial.number(2, 100)):
        rng, out = random.Random(number), tmp_path / str(number)
        kills = []
        for _ in range(3):
            kills.append((rng.randint(0, 4), rng.uniform(0, 0.5)))
            lines, delay = kills[-1]
            train_until(tiny, out, lines, signal.SIGKILL, *words, delay=delay)
        answer = train(tiny, out, *words)
        assert answer.returncode == 0, (kills, answer.stderr)
        assert_same_results(folder(out), folder(tmp_path / "whole"))
        trial.add(True, f"kills after {kills} logged steps and seconds")
        shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_where_one_of_two_ranks_goes_the_other_ends_and_both_can_be_resumed(
    tiny, tmp_path, trials, first
):
    """No launcher ends the other rank here: it ends once the process that it waits for is gone."""
    trial = trials(
        "where a rank goes the others end, and resuming all gives the same bits",
        f"one of two ranks gets {first.name}{'' if first == signal.SIGKILL else ', then SIGKILL'}",
    )
    words = [*WORDS, "--resume", "auto"]

    def both(out):
        return [start(tiny, out, *words, variables=variables) for variables in as_ranks(2)]

    assert [rank.wait() for rank in both(tmp_path / "whole")] == [0, 0]
    for number in range(trial.number(1, 10)):
        out, rng = tmp_path / str(number), random.Random(number)
        ranks = both(out)
        ranks[0].wait_for("Batch [", rng.randint(1, 4))
        gone = rng.randrange(2)
        os.kill(ranks[gone].pid, first)
        if first == signal.SIGSTOP:
            time.sleep(1)  # the other one waits for it by now
            os.kill(ranks[gone].pid, signal.SIGKILL)
        codes = [rank.wait() for rank in ranks]
        assert codes[gone] == -signal.SIGKILL and codes[1 - gone] > 0, ranks[1 - gone].said()
        if (folder(out) / "last.pth").exists():  # not where it ended before the first save
            load_checkpoint(folder(out) / "last.pth")
        again = both(out)
        assert [rank.wait() for rank in again] == [0, 0], [rank.said() for rank in again]
        assert_same_results(folder(out), folder(tmp_path / "whole"))
        trial.add(True, f"rank {gone}")
        shutil.rmtree(out)
