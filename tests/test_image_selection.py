"""Which classes and images are chosen."""

import numpy as np
import pytest

from tfrobust import image_selection


def logits_of(directions, labels, noise=0.01):
    """Logits whose argmax is the label, and which point where their class does."""
    random = np.random.default_rng(0)
    found = np.array([directions[label] for label in labels]) + noise * random.normal(size=(len(labels), 6))
    found[np.arange(len(labels)), labels] += 10
    return found


# Classes 0 and 1 look alike, and so do 2 and 3, and 4 and 5.
ALIKE = 20 * np.eye(6)[[0, 0, 2, 2, 4, 4]]
LABELS = np.repeat(np.arange(6), 4)


@pytest.mark.parametrize("seed", range(5))
def test_classes_look_different(seed):
    logits = logits_of(ALIKE, LABELS)
    logits[np.arange(24), LABELS] += 20
    chosen = image_selection.select(logits, LABELS, num_classes=3, images_per_class=2, seed=seed)
    assert {label // 2 for label in chosen.classes} == {0, 1, 2}
    assert LABELS[chosen.indices].tolist() == np.tile(chosen.classes, 2).tolist()
    assert chosen.short == {}


def test_the_seed_chooses_the_first_class():
    logits = logits_of(np.zeros([6, 6]), LABELS)
    first = {
        image_selection.select(logits, LABELS, num_classes=1, images_per_class=1, seed=s).classes for s in range(20)
    }
    assert len(first) > 3
    again = [image_selection.select(logits, LABELS, num_classes=4, images_per_class=1, seed=1) for _ in range(2)]
    assert again[0].classes == again[1].classes


def test_only_images_that_are_classified_correctly():
    logits = logits_of(np.zeros([6, 6]), LABELS)
    # Of class 0 the first image is wrong, of class 1 all but one.
    logits[0, 3] = logits[4, 0] = logits[5, 0] = logits[6, 0] = 100
    chosen = image_selection.select(logits, LABELS, num_classes=5, images_per_class=2, seed=0)
    assert 1 not in chosen.classes and chosen.short == {1: 1}
    assert chosen.indices[chosen.classes.index(0) :: 5].tolist() == [1, 2]
    with pytest.raises(
        ValueError, match=r"num_classes must be at most 5, .* with 2 correctly .* got 6; fewer have 1 \(1\)"
    ):
        image_selection.select(logits, LABELS, num_classes=6, images_per_class=2, seed=0)


def test_given_classes():
    logits = logits_of(np.zeros([6, 6]), LABELS)
    chosen = image_selection.select(logits, LABELS, num_classes=9, images_per_class=1, seed=0, classes=[4, 2])
    assert chosen.classes == (4, 2) and chosen.indices.tolist() == [16, 8]
    with pytest.raises(
        ValueError, match=r"classes must have 5 correctly classified images each, not so: 4 \(4\), 9 \(0\)"
    ):
        image_selection.select(logits, LABELS, num_classes=2, images_per_class=5, seed=0, classes=[4, 9])


def test_targets_are_other_classes():
    labels = np.repeat([3, 5, 9], 40)
    targets = image_selection.random_targets(labels, (3, 5, 9), seed=1)
    assert (targets != labels).all() and set(targets) == {3, 5, 9}
    np.testing.assert_array_equal(targets, image_selection.random_targets(labels, (3, 5, 9), seed=1))
    assert (targets != image_selection.random_targets(labels, (3, 5, 9), seed=2)).any()
    with pytest.raises(ValueError, match="classes must be two or more to have targets"):
        image_selection.random_targets(labels, (3, 3), seed=1)
