"""docs/options.md says what the parsers of the commands say."""

import re
from dataclasses import fields
from pathlib import Path

from run.options_page import options_page
from train.config import Config

PAGE = (Path(__file__).parent.parent / "docs" / "options.md").read_text()


def test_the_page_is_up_to_date():
    assert options_page() == PAGE, "write it anew with `make options`"


def test_the_page_lists_each_option_of_training_once():
    training = PAGE.partition("## Training")[2].partition("\n## ")[0]
    training, _, own = training.partition("### Your own videos")
    names = re.findall(r"^\| `--([a-z-]+)`", own, re.M)
    assert names == ["videos", "group", "val-fraction", "short-side"]
    listed = re.findall(r"^\| `--([a-z0-9-]+)`", training, re.M)
    there = {f.name.replace("_", "-") for f in fields(Config) if not f.metadata.get("hidden")}
    assert sorted(listed) == sorted(there)


def test_the_links_of_the_introduction_lead_to_headings():
    anchors = {
        re.sub(r"\s", "-", heading.lower()) for heading in re.findall(r"^## (.*)", PAGE, re.M)
    }
    assert set(re.findall(r"\(#([a-z-]+)\)", PAGE)) == anchors
