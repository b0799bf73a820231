"""The random division into training and validation: shares, sources, what stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.annotations.validation_split import OPEN, TRAIN, VAL, hold_out, join_groups

datasets = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=80)
fractions = st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.9])
seeds = st.integers(0, 100)


def arrays(dataset):
    """Names, labels and sources; half of the sources have videos of one class only."""
    names = [f"v{number}" for number in range(len(dataset))]
    labels = np.unique([label for label, _ in dataset], return_inverse=True)[1]
    keys = [(label if source % 2 else 0, source) for label, source in dataset]
    sources = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return names, labels, sources


@given(datasets, fractions, seeds)
def test_sources_stay_whole_and_classes_are_in_both_parts(dataset, fraction, seed):
    names, labels, sources = arrays(dataset)
    val = hold_out(names, labels, sources, fraction=fraction, seed=seed)
    assert val.tolist() == hold_out(names, labels, sources, fraction=fraction, seed=seed).tolist()
    for source in np.unique(sources):
        assert len(set(val[sources == source].tolist())) == 1
    if not fraction:
        assert not val.any()


@given(st.lists(st.integers(2, 30), min_size=1, max_size=5), fractions, seeds)
def test_each_class_has_its_share(sizes, fraction, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"v{number}" for number in range(len(labels))]
    val = hold_out(names, labels, np.arange(len(labels)), fraction=fraction, seed=seed)
    for label, size in enumerate(sizes):
        wanted = min(max(round(fraction * size), 1), size - 1) if fraction else 0
        assert abs(val[labels == label].sum() - wanted) <= 0.5 + 1e-9 or size * fraction % 1 == 0.5


@given(datasets, datasets, seeds)
def test_videos_keep_their_part_when_others_are_added(dataset, more, seed):
    names, labels, sources = arrays(dataset + more)
    first = len(dataset)
    before = np.unique(sources[:first], return_inverse=True)[1]
    classes = np.unique(labels[:first], return_inverse=True)[1]
    val = hold_out(names[:first], classes, before, fraction=0.2, seed=seed)
    held = np.full(len(names), OPEN)
    held[:first] = np.where(val, VAL, TRAIN)
    again = hold_out(names, labels, sources, fraction=0.2, seed=seed, held=held)
    assert again[:first].tolist() == val.tolist()
    for number in range(first, len(names)):
        same = np.flatnonzero(sources[:first] == sources[number])
        if len(same):
            assert again[number] == val[same[0]]


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_two_sources_of_a_class_are_one_for_each_part(fraction):
    labels, sources = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 2, 2])
    val = hold_out(list("abcdef"), labels, sources, fraction=fraction, seed=0)
    assert 0 < val[:4].sum() < 4
    assert not val[4:].any()  # one source: nothing to divide


def test_one_source_is_for_training():
    val = hold_out(list("abcde"), np.zeros(5, int), np.zeros(5, int), fraction=0.2, seed=0)
    assert not val.any()


def test_seeds_differ_and_other_classes_do_not_matter():
    names = [f"v{number}" for number in range(40)]
    labels, sources = np.repeat([0, 1], 20), np.arange(40)
    splits = {tuple(hold_out(names, labels, sources, fraction=0.2, seed=s)) for s in range(5)}
    assert len(splits) == 5
    whole = hold_out(names, labels, sources, fraction=0.2, seed=3)
    part = hold_out(names[:20], labels[:20], sources[:20], fraction=0.2, seed=3)
    assert whole[:20].tolist() == part.tolist()


def test_joined_groups():
    assert join_groups(np.array([0, 1, 1, 3, 4])).tolist() == [0, 1, 1, 2, 3]
    joined = join_groups(np.array([0, 1, 1, 3, 4]), np.array([7, 7, 8, 9, 9]))
    assert joined.tolist() == [0, 0, 0, 1, 1]
