"""The benchmark of SRTG blocks added to a pretrained network: rows, contenders, the same start."""

import argparse

import pytest
import torch

from run.benchmarks.options import BENCHMARKS
from run.benchmarks.srtg_transfer import CONTENDERS, measure, select


@pytest.mark.slow
def test_each_network_trains_on_the_second_half_of_the_actions():
    parser = argparse.ArgumentParser()
    BENCHMARKS["srtg"].add_options(parser)
    words = "--clips 16 --validation 8 --frames 2 --size 16 --batch 4 --seeds 1 --epochs 1"
    rows = measure(parser.parse_args([*words.split(), "--pretraining-epochs", "1"]))
    assert [row["network"] for row in rows] == list(CONTENDERS)
    assert [row["mean_abs_alpha"] > 0 for row in rows] == [False, True]
    assert all(0 <= row["top1_percent"] <= 100 and row["loss"] > 0 for row in rows)


def test_labels_of_a_part_of_the_actions_start_at_zero():
    clips, labels = select((torch.arange(8), torch.arange(8)), 4, 4)
    assert (clips.tolist(), labels.tolist()) == ([4, 5, 6, 7], [0, 1, 2, 3])
