"""The battery of resuming: from every step of a run, after many kills, with a rank that is gone."""

import os
import random
import shutil
from contextlib import suppress

import pytest
from runs import (
    STATE,
    command,
    folder,
)

import train.engine as engine
from data.clips import ClipDataset
from run.cli import parse_config
from train.agreement import digest

pytestmark = pytest.mark.fault

# batches of two clips, seven a step an epoch, saved after every step
SMALL = "--clip-size 16 --clip-length 2 --batch-size 2 --bn-clips 2 --multigrid off --workers 0"
WORDS = [*SMALL.split(), "--save-steps", "1", "--tensorboard", "False", "--micro-batch", "2"]


class Enough(BaseException):
    """Ends a run in this process as abruptly as it can be done."""


class Watched:
    """A run in this process: the digest of all that it saves, the clips it asks for, in order."""

    def __init__(self, monkeypatch, words, out, *, keep=None, most=None):
        self.saved, self.clips, self.steps = [], [], []

        def watch(name):
            save = getattr(engine, name)

            def saving(where, *rest, **options):
                save(where, *rest, **options)
                state = rest[-1]
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
                patched.setattr(engine, name, watch(name))
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
    epochs = trial.number(1, 6)

    def words(out):
        return command(tiny, out, *WORDS, "--end-epoch", str(epochs), "--resume", "auto")[2:]

    states, out = tmp_path / "states", tmp_path / "whole"
    states.mkdir()
    whole = Watched(monkeypatch, words(out), out, keep=states)
    assert (
        max(whole.steps) == 7 * epochs and len(whole.saved) == len(set(whole.saved)) == 8 * epochs
    )
    points = range(len(whole.saved) - 1)
    for at in random.Random(0).sample(points, trial.number(2, len(points))):
        out = tmp_path / str(at)
        folder(out).mkdir(parents=True)
        shutil.move(states / f"{at}.pth", folder(out) / "last.pth")
        resumed = Watched(monkeypatch, words(out), out, most=1)
        asked = whole.clips[2 * whole.steps[at] :][: len(resumed.clips)]
        trial.add(resumed.saved == [whole.saved[at + 1]] and resumed.clips == asked, f"save {at}")
        shutil.rmtree(out)
