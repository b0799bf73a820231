"""Augmentation: the compiled program does what imgaug does, alike on every frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ks_2samp

from data.augment.crop import SCALES, Crop, draw_crop
from data.augment.erasing import AREA, erase_box
from data.augment.imgaug_compiler import RULES, compile_pipeline, perspective
from data.augment.imgaug_parameters import make_sampler
from data.augment.operations import ColourMatrix, Noise, Warp, rotation
from data.augment.presets import PRESETS, import_imgaug, load_pipeline
from data.augment.program import Program, load_augmentation, merge_neighbours
from data.data_error import DataError
from data.synthetic import texture

ia = import_imgaug()
iaa, iap = ia.augmenters, ia.parameters
SIZE = 96
WHOLE = Crop(1.0)

#: Augmenters whose parameters are constants, so that both sides draw the same.
FIXED = {
    "gaussian 0.3": iaa.GaussianBlur(0.3),
    "gaussian 1.5": iaa.GaussianBlur(1.5),
    "gaussian 0.1": iaa.GaussianBlur(0.1),
    "add": iaa.Add(12),
    "subtract": iaa.Add(-5),
    "multiply": iaa.Multiply(1.2),
    "enhance colour": iaa.pillike.EnhanceColor(1.6),
    "enhance brightness": iaa.pillike.EnhanceBrightness(1.3),
    "motion 3": iaa.MotionBlur(k=3, angle=120, direction=-0.4),
    "motion 5": iaa.MotionBlur(k=5, angle=0, direction=0),
    "motion 7": iaa.MotionBlur(k=7, angle=33, direction=0.4),
    "hue and saturation up": iaa.AddToHueAndSaturation(16),
    "hue and saturation down": iaa.AddToHueAndSaturation(-16),
    "hue far": iaa.AddToHue(-200),
    "saturation": iaa.AddToSaturation(-60),
    "contrast down": iaa.LinearContrast(0.85),
    "contrast up": iaa.LinearContrast(1.115),
    "gamma": iaa.GammaContrast(0.7),
    "rotate": iaa.Rotate(10),
    "rotate back": iaa.Rotate(-7),
    "affine": iaa.Affine(scale={"x": 1.2, "y": 0.9}, rotate=20, translate_px={"x": 7, "y": -3}),
    "translate": iaa.Affine(translate_percent={"x": 0.1, "y": -0.05}),
    "identity": iaa.Identity(),
}
RANDOM = {
    "noise": iaa.AdditiveGaussianNoise(scale=0.3 * 255),
    "noise a channel": iaa.AdditiveGaussianNoise(scale=(5, 20), per_channel=True),
    "add a channel": iaa.Add((-5, 15), per_channel=True),
    "perspective": iaa.PerspectiveTransform(scale=(0.02, 0.05)),
    "dropout (by imgaug)": iaa.CoarseDropout(0.3, size_percent=0.1),
    "cutout (by imgaug)": iaa.Cutout(),
}


@pytest.fixture(scope="module")
def frames():
    """Four textured frames, uint8 (4, SIZE, SIZE, 3), with detail down to a few pixels."""
    rng = np.random.default_rng(0)
    coarse = [texture((SIZE, SIZE), rng, cells=5) // 2 for _ in range(4)]
    fine = [texture((SIZE, SIZE), rng, cells=24) // 2 for _ in range(4)]
    return np.stack(coarse) + np.stack(fine)


def ours(augmenter, frames, seed=0):
    rng = np.random.default_rng(seed)
    return Program(compile_pipeline(augmenter)(rng, SIZE)).render(frames, WHOLE, SIZE)


def compiles(augmenter) -> bool:
    """Whether a rule covers the augmenter itself (not its children)."""
    rule = RULES.get(type(augmenter).__name__)
    return rule is not None and rule(augmenter) is not None


def assert_close(result, expected):
    """Within a few grey levels: mean and all but one value in a thousand."""
    difference = np.abs(result.astype(int) - expected.astype(int))
    assert difference.mean() < 0.4 and np.quantile(difference, 0.999) <= 5


@pytest.mark.parametrize("name", FIXED)
def test_each_operation_equals_imgaugs(name, frames):
    augmenter = FIXED[name]
    assert RULES[type(augmenter).__name__](augmenter)
    expected = np.stack([augmenter.augment_image(frame.copy()) for frame in frames])
    assert_close(ours(augmenter, frames), expected)


class FixedJitter(iap.StochasticParameter):
    """imgaug's jitter of four corners, given."""

    def __init__(self, jitter):
        super().__init__()
        self.jitter = jitter

    def _draw_samples(self, size, random_state):
        return np.broadcast_to(self.jitter, size).copy()


@pytest.mark.parametrize("seed", range(4))
def test_perspective_equals_imgaugs(frames, seed):
    jitter = np.random.default_rng(seed).normal(0, 0.05, (4, 2))
    augmenter = iaa.PerspectiveTransform(0.05)
    augmenter.jitter = FixedJitter(jitter)
    expected = np.stack([augmenter.augment_image(frame.copy()) for frame in frames])
    warped = Program([Warp((perspective(jitter, SIZE),))]).render(frames, WHOLE, SIZE)
    difference = np.abs(warped.astype(int) - expected.astype(int))
    # imgaug looks up twice, the second time with area averaging or cubic
    assert difference.mean() < 2 and np.quantile(difference, 0.99) <= 8


def test_noise_adds_what_was_drawn(frames):
    (noise,) = compile_pipeline(RANDOM["noise"])(np.random.default_rng(0), SIZE)
    added = noise.plus.astype(int) - noise.minus
    assert isinstance(noise, Noise) and not (noise.plus & noise.minus).astype(bool).all()
    assert (added == added[..., :1]).all()  # one value for the three channels
    assert abs(added.std() - 76.5) < 2 and abs(added.mean()) < 3
    result = Program([noise]).render(frames, WHOLE, SIZE)
    assert np.array_equal(result, np.clip(frames + added, 0, 255))


@pytest.mark.parametrize("name", [*FIXED, *RANDOM])
def test_every_frame_gets_the_same_change(name, frames):
    still = np.repeat(frames[:1], 3, axis=0)
    result = ours({**FIXED, **RANDOM}[name], still, seed=3)
    assert (result == result[0]).all()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", range(6))
def test_every_frame_gets_the_same_change_of_a_preset(name, seed, frames):
    still = np.repeat(frames[:1], 3, axis=0)
    program = load_augmentation(name).draw(np.random.default_rng(seed), SIZE)
    result = program.render(still, WHOLE, SIZE)
    assert (result == result[0]).all()


@pytest.mark.parametrize("name", PRESETS)
def test_a_program_is_a_function_of_its_generator(name, frames):
    augmentation = load_augmentation(name)
    first, again, other = (
        [
            augmentation.draw(np.random.default_rng((seed, i)), SIZE).render(frames, WHOLE, SIZE)
            for i in range(6)
        ]
        for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (name == "none")


def test_global_generators_play_no_part(frames):
    augmentation = load_augmentation("imgaug")
    results = []
    for global_seed in (1, 2):
        np.random.seed(global_seed)  # noqa: NPY002
        ia.seed(global_seed)
        program = augmentation.draw(np.random.default_rng(11), SIZE)
        results.append(program.render(frames, WHOLE, SIZE))
    assert np.array_equal(*results)


def test_the_whole_readme_list_is_compiled():
    listed = load_pipeline("readme").then_list
    assert len(listed) == 9
    assert all(compiles(branch) and compiles(branch.then_list[0]) for branch in listed)


def test_what_no_rule_covers_runs_through_imgaug(frames):
    for augmenter in (iaa.CoarseDropout(0.3, size_percent=0.1), iaa.Rotate(9, mode="reflect")):
        assert not compiles(augmenter)
        result = ours(augmenter, frames, seed=4)
        augmenter.seed_(entropy=int(np.random.default_rng(4).integers(2**31)))
        same = augmenter.to_deterministic()
        assert np.array_equal(result, [same.augment_image(frame.copy()) for frame in frames])
        assert not np.array_equal(result, frames)


# Containers


def drawn(augmenter, times=2000):
    draft, rng = compile_pipeline(augmenter), np.random.default_rng(0)
    return [draft(rng, 8) for _ in range(times)]


def offsets(operations):
    return tuple(int(op.matrix[0, 3]) for op in operations)


def test_sometimes_happens_as_often_as_it_says():
    count = sum(bool(ops) for ops in drawn(iaa.Sometimes(0.4, iaa.Add(1))))
    assert binomtest(count, 2000, 0.4).pvalue > 1e-3
    assert {offsets(o) for o in drawn(iaa.Sometimes(0.5, iaa.Add(1), iaa.Add(2)), 50)} == {
        (1,),
        (2,),
    }


def test_the_preset_readme_changes_four_clips_in_five():
    plain = sum(not ops for ops in drawn(load_pipeline("readme")))
    # none of the nine with 0.6 ** 9, nor an invisible blur alone with 2 of its 3 sigmas
    expected = 0.2 + 0.8 * (0.6**8 * (0.6 + 0.4 * 2 / 3))
    assert binomtest(plain, 2000, expected).pvalue > 1e-3


def test_sequences_keep_or_draw_their_order():
    children = [iaa.Add(1), iaa.Add(2), iaa.Add(3)]
    assert {offsets(ops) for ops in drawn(iaa.Sequential(children), 20)} == {(1, 2, 3)}
    shuffled = {offsets(ops) for ops in drawn(iaa.Sequential(children, random_order=True), 200)}
    assert len(shuffled) == 6


def test_one_of_and_some_of():
    children = [iaa.Add(1), iaa.Add(2), iaa.Add(3)]
    assert {offsets(ops) for ops in drawn(iaa.OneOf(children), 100)} == {(1,), (2,), (3,)}
    pairs = {offsets(ops) for ops in drawn(iaa.SomeOf(2, children), 100)}
    assert pairs == {(1, 2), (1, 3), (2, 3)}
    counts = {len(ops) for ops in drawn(iaa.SomeOf((1, None), children), 100)}
    assert counts == {1, 2, 3}


@pytest.mark.parametrize(
    "parameter",
    [
        iap.Deterministic(3),
        iap.Uniform(-2.0, 5.0),
        iap.DiscreteUniform(-5, 15),
        iap.Choice([3, 5, 7]),
        iap.Binomial(0.3),
        iap.Normal(1, 2),
        iap.Clip(iap.Normal(0, 1), -1, 1),
    ],
    ids=str,
)
def test_parameters_are_distributed_as_imgaugs(parameter):
    draw, rng = make_sampler(parameter), np.random.default_rng(0)
    ours = [float(draw(rng)) for _ in range(1500)]
    theirs = parameter.draw_samples((1500,), random_state=ia.random.RNG(1)).astype(float)
    assert ks_2samp(ours, theirs).pvalue > 1e-3


# Fusion


def test_neighbouring_colours_become_one_unless_the_first_clips(frames):
    less, more = (
        compile_pipeline(FIXED[name])(np.random.default_rng(0), SIZE)[0]
        for name in ("contrast down", "enhance colour")
    )
    (fused,) = merge_neighbours([less, more])
    one_by_one = frames
    for colour in (less, more):
        one_by_one = Program([colour]).render(one_by_one, WHOLE, SIZE)
    assert_close(Program([fused]).render(frames, WHOLE, SIZE), one_by_one)
    assert len(merge_neighbours([more, less])) == 2


@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_geometry_become_one_look_up(frames, flip):
    crop = Crop(0.7, 0.2, 0.9, flip)
    turn, zoom = (
        compile_pipeline(FIXED[name])(np.random.default_rng(0), SIZE)[0]
        for name in ("rotate", "affine")
    )
    at_once = Program([turn, zoom]).render(frames, crop, SIZE)
    in_turn = Program([]).render(frames, crop, SIZE)
    for warp in (turn, zoom):
        in_turn = Program([warp]).render(in_turn, WHOLE, SIZE)
    difference = np.abs(at_once.astype(int) - in_turn.astype(int))
    assert difference.mean() < 3
    assert ((at_once == 0).all(-1) != (in_turn == 0).all(-1)).mean() < 0.05  # the same corners


def test_operations_of_another_kind_keep_their_place():
    turn, colour = Warp((rotation(5, SIZE),)), ColourMatrix(np.eye(3, 4))
    merged = merge_neighbours([turn, colour, turn, turn])
    assert [type(op) for op in merged] == [Warp, ColourMatrix, Warp]


# The whole pipeline


def summary(clip):
    """What a clip looks like in eight numbers: moments, a coarse histogram, sharpness."""
    values = clip.astype(np.float32)
    histogram = np.histogram(clip, bins=(0, 1, 64, 192, 255, 256))[0] / clip.size
    sharpness = np.abs(np.diff(values, axis=1)).mean()
    return [values.mean(), values.std(), values[..., 0].mean(), sharpness, *histogram]


def compare_distributions(frames, clips):
    frames = frames[:1]
    summaries = [
        [
            summary(
                load_augmentation(name)
                .draw(np.random.default_rng((number, seed)), SIZE)
                .render(frames, WHOLE, SIZE)
            )
            for number in range(clips)
        ]
        for seed, name in enumerate(("readme", "imgaug"))
    ]
    compiled, reference = map(np.array, summaries)
    for column in range(compiled.shape[1]):
        # Chance, and 0.04: noise is smoothed by one look-up here, by up to three in imgaug.
        spread = reference[:, column].std()
        grain = 0.02 * spread * np.random.default_rng(column).standard_normal((2, clips))
        ours, theirs = compiled[:, column] + grain[0], reference[:, column] + grain[1]
        chance = (2 / clips) ** 0.5
        assert ks_2samp(ours, theirs).statistic < 0.04 + 1.95 * chance, column
        assert abs(ours.mean() - theirs.mean()) < (0.04 + 3.3 * chance) * spread, column


def test_the_preset_readme_is_distributed_as_imgaugs(frames):
    compare_distributions(frames, 400)


@pytest.mark.slow
def test_the_preset_readme_is_distributed_as_imgaugs_over_2000_clips(frames):
    compare_distributions(frames, 2000)


# Crops and erasing


@given(
    st.integers(16, 400),
    st.integers(16, 400),
    st.integers(0, 2**32),
    st.floats(0.1, 1.0),
    st.booleans(),
)
def test_a_crop_lies_inside_the_frame(height, width, seed, share, multiscale):
    crop = draw_crop(share, np.random.default_rng(seed), multiscale=multiscale)
    left, top, side = crop.window(height, width)
    assert 0 <= left <= width - side and 0 <= top <= height - side
    assert crop.share in SCALES if multiscale else crop.share == share
    assert abs(side - crop.share * min(height, width)) <= 1


def test_the_default_crop_is_central():
    assert Crop(0.5).window(100, 200) == (75, 25, 50)
    assert Crop(0.5).window(50, 100) == (38, 12, 25)  # the same share at half the size


def test_flip_mirrors(frames):
    plain, mirrored = (
        Program([]).render(frames, Crop(1.0, flip=flip), SIZE) for flip in (False, True)
    )
    assert np.array_equal(mirrored, plain[:, :, ::-1])


def test_erasing_takes_one_box_of_all_frames(frames):
    for seed in range(20):
        clip = frames.copy()
        erase_box(clip, np.random.default_rng(seed), colour=(1.0, 0.0, 0.0))
        box = (clip == (255, 0, 0)).all(-1)
        assert (box == box[0]).all()
        rows, columns = np.flatnonzero(box[0].any(1)), np.flatnonzero(box[0].any(0))
        assert box[0].sum() == len(rows) * len(columns)
        assert 0.5 * AREA[0] < box[0].mean() < 1.1 * AREA[1]
        assert np.array_equal(clip[~box], frames[~box])


# Recipes


def test_the_import_leaves_numpy_as_it_was():
    assert not hasattr(np, "sctypes") or np.lib.NumpyVersion(np.__version__) < "2.0.0"


def test_a_pipeline_of_ones_own(tmp_path, frames):
    path = tmp_path / "mine.py"
    path.write_text("import imgaug.augmenters as iaa\npipeline = iaa.Add(7)\n")
    program = load_augmentation(str(path)).draw(np.random.default_rng(0), SIZE)
    result = program.render(frames, WHOLE, SIZE)
    assert np.array_equal(result, np.clip(frames.astype(int) + 7, 0, 255))


def test_bad_pipelines_are_named(tmp_path):
    with pytest.raises(DataError, match=r"'readmee': neither one of readme, .* nor a Python file"):
        load_pipeline("readmee")
    path = tmp_path / "mine.py"
    path.write_text("pipeline = 3\n")
    with pytest.raises(DataError, match=r"mine\.py: must define `pipeline`"):
        load_pipeline(str(path))
