"""`make gpu`: its page, and what it does where there is no GPU."""

import argparse

import pytest
import torch

from run.benchmarks import gpu_page as gpu
from run.benchmarks.options import BENCHMARKS
from train.train_errors import TrainError


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    BENCHMARKS["gpu"].add_options(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("name", gpu.RUNS)
def test_the_benchmarks_take_the_options_that_they_are_run_with(name):
    parser = argparse.ArgumentParser()
    BENCHMARKS[name].add_options(parser)
    parser.parse_args(gpu.RUNS[name].split())
    assert name in gpu.TITLES


def test_the_page_says_what_it_was_measured_on(tmp_path):
    facts = gpu.machine("H100, bf16")
    assert facts["torch"] == torch.__version__ and facts["device"] == "H100, bf16"
    assert {"driver", "date", "CUDA", "cuDNN"} <= facts.keys()
    rows = {"networks": [{"network": "r3d_18", "step_ms": 12.3456}, {"network": "x", "ratio": 2}]}
    gpu.write_page(tmp_path / "gpu.md", facts, rows)
    page = (tmp_path / "gpu.md").read_text()
    for line in (
        "| device | H100, bf16 |",
        "| network | step_ms | ratio |",
        "| r3d_18 | 12.35 |  |",
    ):
        assert line in page
    assert f"`python -m run.benchmark networks {gpu.RUNS['networks']}`" in page


def test_the_outcome_of_the_tests_is_read_from_pytests_file(tmp_path):
    (tmp_path / "junit.xml").write_text(
        '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>'
        '<testcase name="c"><skipped/></testcase></testsuite></testsuites>'
    )
    assert gpu.outcome(tmp_path / "junit.xml") == "1 passed, 1 failed (b), 1 skipped"
    for text in ("", "<a"):
        (tmp_path / "bad.xml").write_text(text)
        with pytest.raises(TrainError, match="cannot be read"):
            gpu.outcome(tmp_path / "bad.xml")


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="this machine has a GPU")
def test_without_a_gpu_the_page_stays_as_it_is(tmp_path):
    page = tmp_path / "gpu.md"
    page.write_text("never run")
    with pytest.raises(TrainError, match="no GPU"):
        gpu.measure(options("--out", str(page)))
    assert page.read_text() == "never run"
