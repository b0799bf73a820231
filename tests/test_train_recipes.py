"""Recipes: which one a run takes, which values it gets, and what resuming keeps."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import folder, train

from data.dataset_defaults import DATASETS
from run.command_line import complete, dataset_defaults, parse_config
from train.checkpoint.earlier_recipe import earlier_recipe
from train.config import Config
from train.recipe_choice import EarlierRecipe, complete_recipe, reference_rate, sided_classes
from train.recipes import ENOUGH_STEPS, GOVERNED, RECIPES
from train.results.recorder import write_config
from train.train_errors import TrainError

#: Training videos of the six benchmarks.
SIZES = {
    "hacs": 485_000, "kinetics": 240_000, "mit": 800_000, "ucf101": 9_537, "hmdb51": 3_570,
    "diving48": 15_027,
}  # fmt: skip


def options(*words: str, clips: int = 180, classes=(), earlier=None, script: str = "ucf101"):
    """The configuration of a command line, with its recipe, and what was chosen."""
    config = parse_config(script, ["--dataset", "/d", *words])
    return complete_recipe(config, clips, classes, earlier)


def test_every_row_sets_the_same_options_within_their_bounds():
    by_dataset = {"batch_size", "lr_base"}
    for recipe in RECIPES.values():
        assert set(recipe.values) | by_dataset == set(GOVERNED), recipe.name
        for name, value in recipe.values.items():
            item = Config.__dataclass_fields__[name]
            assert type(value).__name__ == str(item.type).removesuffix(" | None"), name
            assert not item.metadata.get("bounds") or item.metadata["bounds"].hold(value), name
            assert not item.metadata["choices"] or value in item.metadata["choices"], name
        assert recipe.when and recipe.source
    assert set(RECIPES) | {"auto"} == set(Config.__dataclass_fields__["recipe"].metadata["choices"])


def test_the_original_s_row_is_what_options_are_without_any_recipe():
    for name, value in RECIPES["original"].values.items():
        assert Config.__dataclass_fields__[name].default == value, name


@pytest.mark.parametrize("name", SIZES)
def test_the_six_scripts_on_the_full_benchmarks_are_the_original_s(name):
    config, choice = options(script=name, clips=SIZES[name])
    before = complete(name, dataset="/d")
    assert choice.name == config.recipe == "original"
    assert {n: getattr(config, n) for n in GOVERNED} == {n: getattr(before, n) for n in GOVERNED}
    assert config.lr_base == DATASETS[name].lr and config.batch_size == DATASETS[name].batch


def test_few_clips_are_trained_from_scratch_without_multigrid():
    config, choice = options()
    assert (choice.name, config.recipe) == ("scratch", "scratch")
    assert (config.optimiser, config.multigrid, config.batch_size) == ("adamw", "off", 8)
    assert config.lr_base == 5e-4 and config.warmup_epochs == 5  # of 100 epochs
    assert "180 clips give" in choice.why and f"{ENOUGH_STEPS:,} optimiser steps" in choice.why
    assert options("--end-epoch", "15")[0].warmup_epochs == 1.5


def test_the_number_of_steps_decides_not_that_of_clips():
    enough = options("--end-epoch", "1000", clips=1000)[1]
    assert (
        enough.name == "original" and options("--end-epoch", "9", clips=9000)[1].name == "scratch"
    )
    assert options("--multigrid", "off", clips=1000)[1].name == "original"  # 3,100 steps, not 1,000


def test_given_options_win_and_are_said():
    words = ("--lr-base", "0.01", "--multigrid", "epoch", "--flip", "False", "--weight-decay", "0")
    config, choice = options(*words)
    assert (config.lr_base, config.multigrid, config.flip, config.weight_decay) == (
        0.01, "epoch", False, 0.0,
    )  # fmt: skip
    assert config.optimiser == "adamw"
    assert set(choice.given) == {"lr_base", "multigrid", "flip", "weight_decay"}
    assert not set(choice.given) & set(choice.values)
    said = "given instead: --weight-decay 0 --multigrid epoch --flip False --lr-base 0.01"
    assert said in "\n".join(choice.lines())


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        (["--batch-size", "32"], 5e-4 * 2),  # AdamW: the square root
        (["--batch-size", "32", "--multigrid-lr-power", "0"], 5e-4),
        (["--batch-size", "8"], 5e-4),
        (["--batch-size", "32", "--lr-base", "0.002"], 0.002),
        (["--recipe", "original", "--batch-size", "8"], 0.1 / 4),  # SGD: in proportion
        (["--recipe", "original"], 0.1),
        (["--optimiser", "sgd"], 0.1 / 4),
        (["--recipe", "original", "--optimiser", "adamw"], 5e-4 * 2),
    ],
)
def test_the_rate_follows_batch_and_optimiser_unless_it_is_given(words, rate):
    config, choice = options(*words)
    assert config.lr_base == pytest.approx(rate)
    said = "the learning rate follows" in "\n".join(choice.lines())
    assert said == (
        ("--batch-size" in words or "--optimiser" in words) and "--lr-base" not in words
    )


def test_weight_decay_follows_the_optimiser_but_not_in_the_original():
    assert options("--optimiser", "sgd")[0].weight_decay == 1e-4
    assert options("--optimiser", "adamw", "--recipe", "original")[0].weight_decay == 1e-4


@pytest.mark.parametrize(
    ("classes", "mirrored"),
    [
        (("Archery", "Bowling"), True),
        (("move_left", "move_right"), False),
        (("TurnRight", "Jump"), False),
        (("copyright", "cleft", "Brightness"), True),
    ],
)
def test_clips_are_not_mirrored_where_classes_name_a_side(classes, mirrored):
    config, choice = options(classes=classes)
    assert config.flip is mirrored and bool(choice.notes) is not mirrored
    assert bool(sided_classes(classes)) is not mirrored
    assert options("--flip", "True", classes=classes)[0].flip  # given: the user knows


def test_weights_are_fine_tuned_or_probed():
    config, choice = options("--pretrained-3d", "w.pth")
    assert choice.name == "finetune" and config.fine_tune and config.head_epochs == 1
    assert config.backbone_lr < 1 and "--backbone-lr" in "\n".join(choice.lines())
    assert options("--pretrained-3d", "w.pth", "--backbone-lr", "0.4")[0].backbone_lr == 0.4
    config = options("--pretrained-3d", "w.pth", "--recipe", "probe")[0]
    assert config.freeze_until == "fc" and not config.fine_tune
    assert "--backbone-lr" not in "\n".join(options()[1].lines())


def test_an_earlier_run_s_recipe_and_values_are_kept():
    earlier = EarlierRecipe("scratch", {**RECIPES["scratch"].values, "lr_base": 7e-4})
    resumed = ("--resume", "auto", "--end-epoch", "1000")
    config, choice = options(*resumed, clips=9000, earlier=earlier)
    assert (config.recipe, config.lr_base) == ("scratch", 7e-4)
    assert "resumed" in choice.why
    config = options(*resumed, "--recipe", "original", earlier=earlier)[0]
    assert config.recipe == "original" and config.optimiser == "sgd"  # then resuming refuses it
    assert options("--recipe", "auto", "--resume", "auto", earlier=earlier)[1].name == "scratch"


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 10**5),
    st.sampled_from(["auto", "original", "scratch"]),
    st.integers(1, 512),
    st.sampled_from(["sgd", "adamw"]),
    st.integers(1, 300),
)
def test_whatever_is_given_is_what_the_run_has(clips, recipe, batch, optimiser, epochs):
    words = {"recipe": recipe, "batch_size": batch, "optimiser": optimiser, "end_epoch": epochs}
    config = complete("ucf101", dataset="/d", **words)
    done, choice = complete_recipe(config, clips)
    assert (done.batch_size, done.optimiser, done.end_epoch) == (batch, optimiser, epochs)
    assert done.recipe == choice.name != "auto"
    assert done.lr_base == pytest.approx(reference_rate(config, optimiser, batch))
    assert done.warmup_epochs <= epochs / 10
    assert complete_recipe(done, clips)[0] == done  # nothing is left to be decided


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "probe"], "--recipe probe needs trained weights"),
        (["--recipe", "finetune"], "--recipe finetune needs trained weights"),
        (["--recipe", "probe", "--resume", "auto"], "there is no run to resume"),
        (["--freeze-until", "fc"], "--freeze-until fc needs trained weights"),
        (["--freeze-bn"], "--freeze-bn needs trained weights"),
        (
            ["--recipe", "probe", "--pretrained-3d", "w", "--freeze-until", "layer3"],
            "--recipe probe trains the classifier alone",
        ),
        (["--recipe", "probe", "--pretrained-3d", "w", "--precise-bn", "3"], "--precise-bn"),
        (["--recipe", "scratch", "--backbone-lr", "0.1"], "--backbone-lr has an effect only"),
    ],
)
def test_options_that_contradict_the_recipe_s_purpose(words, said):
    with pytest.raises(TrainError, match=said):
        options(*words)


def test_an_unknown_recipe_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        options("--recipe", "scrach")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and error.startswith("error: ")
    assert "did you mean scratch?" in error


def resumed(tmp_path, *words: str) -> Config:
    return parse_config(
        "ucf101", ["--dataset", "/d", "--resume", "auto", "--model-dir", str(tmp_path), *words]
    )


def test_the_earlier_recipe_is_read_from_config_json(tmp_path):
    config = resumed(tmp_path)
    assert earlier_recipe(config) is None  # there is no run
    place = tmp_path / "srtg_r3d_34_gates_False"
    place.mkdir()
    (place / "last.pth").write_bytes(b"")
    done, choice = complete_recipe(config, 180)
    write_config(place, done, recipe=choice.facts())
    assert earlier_recipe(config) == EarlierRecipe("scratch", choice.values)
    again, kept = complete_recipe(config, 10**6, (), earlier_recipe(config))
    assert again == done and kept.values == choice.values
    assert earlier_recipe(complete("ucf101", dataset="/d", model_dir=str(tmp_path))) is None


def test_a_run_of_an_earlier_version_has_the_original_s_values(tmp_path):
    config = resumed(tmp_path, "--batch-size", "8")
    place = tmp_path / "srtg_r3d_34_gates_False"
    place.mkdir()
    (place / "last.pth").write_bytes(b"")
    (place / "config.json").write_text(json.dumps({"options": {"lr_base": 0.1}}))
    done, choice = complete_recipe(config, 180, (), earlier_recipe(config))
    assert (done.recipe, done.lr_base, done.batch_size) == ("original", 0.1, 8)  # not scaled then
    assert dataset_defaults(DATASETS["ucf101"])["lr_base"] == choice.values["lr_base"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"recipe": 3}', '{"recipe": {"name": "x", "values": {}}}',
        '{"recipe": {"name": "scratch"}}', '{"recipe": {"name": [], "values": {}}}',
        '{"recipe": {"name": "scratch", "values": {"lr_base": "fast"}}}',
        '{"recipe": {"name": "scratch", "values": {"lr_base": -1}}}',
        '{"recipe": {"name": "scratch", "values": {"optimiser": "lion"}}}',
        '{"recipe": {"name": "scratch", "values": {"flip": 1}}}',
    ],
)  # fmt: skip
def test_a_damaged_config_json_is_not_believed(tmp_path, text):
    place = tmp_path / "srtg_r3d_34_gates_False"
    place.mkdir()
    (place / "last.pth").write_bytes(b"no checkpoint")
    (place / "config.json").write_text(text)
    assert earlier_recipe(resumed(tmp_path)) is None


AUTO = ["--recipe", "auto", "--lr-base", "0.0005", "--batch-size", "4", "--workers", "0"]


def test_a_run_says_its_recipe_and_resuming_keeps_it(tiny, tmp_path):
    answer = train(tiny, tmp_path, *AUTO, "--end-epoch", "1")
    assert answer.returncode == 0, answer.stderr
    assert "recipe scratch: the original's options need 2,000 optimiser steps" in answer.stderr
    assert "clips are not mirrored: class names say left or right (move_left)" in answer.stderr
    assert "WARNING the run has" in answer.stderr and "--end-epoch to" in answer.stderr
    path = folder(tmp_path) / "config.json"
    content = json.loads(path.read_text())
    assert content["recipe"]["name"] == content["options"]["recipe"] == "scratch"
    assert content["recipe"]["values"]["optimiser"] == "adamw"
    assert "lr_base" in content["options"]["given"]
    path.unlink()  # then the checkpoint says it
    again = train(tiny, tmp_path, *AUTO, "--end-epoch", "1", "--resume", "auto")
    assert again.returncode == 0, again.stderr
    assert "recipe scratch: as in the run that is resumed" in again.stderr
    other = train(tiny, tmp_path, *AUTO, "--recipe", "original", "--resume", "auto")
    assert other.returncode == 2 and other.stderr.splitlines()[-1].startswith("error: ")
