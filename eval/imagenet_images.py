"""The images that eval.imagenet attacks: where they come from, and which are chosen."""

import os
import pathlib

import numpy as np
from absl import flags, logging

from eval import common, data_flags, imagenet_models, imagenet_rows
from tfrobust import candidates, image_selection

IMAGENET2012 = flags.DEFINE_bool("imagenet2012", False, "The validation set that TensorFlow Datasets has prepared.")
SYNSETS = flags.DEFINE_string(
    "synsets",
    None,
    "File with the synsets of the classifier's classes in their order, and their names: n01440764 tench. Default: "
    "synsets.txt in --data_dir or beside it, or else the folders of --data_dir.",
)
SQUASH = flags.DEFINE_bool(
    "squash",
    False,
    "As for Caffe's networks: images made square, whatever their proportions, and then cut.",
)
ONLY = flags.DEFINE_list("only_synsets", None, "Attack images of these synsets, in place of --num_classes.")
NUM_CLASSES = flags.DEFINE_integer("num_classes", 30, "Classes to attack images of.", lower_bound=2)
PER_CLASS = flags.DEFINE_integer("images_per_class", 5, "Images of each class.", lower_bound=1)
CANDIDATES = flags.DEFINE_integer("candidates", 4, "Look at so many times more images than are taken.", lower_bound=1)


def choose(classifier):
    """The images that are attacked: `images` [N, H, W, 3], `labels`, `targets` and `files`, lists of N, `names` of the
    chosen classes by label, and `all_names` of the classifier's classes.

    Raises:
      ValueError, OSError: if there are not so many that can be read and are classified correctly.
    """
    size = imagenet_models.image_size(classifier)
    source, synsets, names = _source()
    print(f"looking at {len(source)} images of {len(np.unique(source.labels))} classes", flush=True)
    if source.unknown:
        logging.warning("left out, no class of the classifier: %s", _some(source.unknown))
    logits, readable, faults = [], [], []
    size_of_batch = common.EVAL_BATCH_SIZE.value
    logits_of = imagenet_rows.logits_in_batches(classifier)
    for start in range(0, len(source), size_of_batch):
        images, indices, bad = source.decode(
            range(start, min(start + size_of_batch, len(source))), size, squash=SQUASH.value
        )
        faults += bad
        if len(indices):
            readable.append(indices)
            logits.append(logits_of(images))
    for fault in faults:
        logging.warning("left out: %s", fault)
    if not readable:
        raise ValueError("data_dir must hold images that can be read, got none")
    logits, readable = np.concatenate(logits), np.concatenate(readable)
    if logits.shape[1] != len(synsets):
        raise ValueError(
            f"synsets must be as many as the {logits.shape[1]} classes of the classifier, in their order, got "
            f"{len(synsets)}: --synsets=FILE"
        )
    picked = image_selection.select(
        logits,
        source.labels[readable],
        num_classes=NUM_CLASSES.value,
        images_per_class=PER_CLASS.value,
        seed=common.SEED.value,
        classes=None if ONLY.value is None else [synsets.index(name) for name in ONLY.value],
    )
    if picked.short:
        few = [f"{synsets[label]} ({count})" for label, count in picked.short.items()]
        logging.warning("classes with fewer than %d correctly classified images: %s", PER_CLASS.value, _some(few))
    accuracy = np.mean(np.argmax(logits, axis=1) == source.labels[readable])
    print(f"{accuracy:.2%} of these are classified correctly", flush=True)
    indices = readable[picked.indices]
    labels = source.labels[indices]
    return {
        "images": source.decode(indices, size, squash=SQUASH.value)[0],
        "labels": labels.tolist(),
        "targets": image_selection.random_targets(labels, picked.classes, common.SEED.value).tolist(),
        "files": ["/".join(pathlib.Path(source.names[i]).parts[-2:]) for i in indices],
        "names": {str(label): names[label] for label in sorted(set(picked.classes))},
        "all_names": names,
    }


def _source():
    """Candidates, and the synsets and names of the classifier's classes."""
    per_class = PER_CLASS.value * CANDIDATES.value
    if IMAGENET2012.value:
        synsets, names = candidates.tfds_synsets()
        if SYNSETS.value:
            synsets, names = candidates.synsets_of(SYNSETS.value)
        labels = None if ONLY.value is None else [_label_of(name, synsets) for name in ONLY.value]
        found = candidates.from_tfds(data_flags.DATA_DIR.value, per_class=per_class, classes=labels)
        return found, synsets, names
    folder = data_flags.DATA_DIR.value
    if not folder:
        raise ValueError("data_dir must be given: --data_dir=FOLDER, which holds a folder of images for each synset")
    beside = [SYNSETS.value] if SYNSETS.value else [f"{folder}/synsets.txt", f"{folder}/../synsets.txt"]
    listed = next((path for path in beside if os.path.isfile(path)), SYNSETS.value)
    if listed:
        synsets, names = candidates.synsets_of(listed)
    else:
        synsets = names = candidates.folders_of(folder)
    for name in ONLY.value or ():
        _label_of(name, synsets)
    found = candidates.from_folder(
        folder,
        synsets,
        per_class=per_class,
        num_classes=NUM_CLASSES.value * CANDIDATES.value,
        only=ONLY.value,
        seed=common.SEED.value,
    )
    return found, synsets, names


def _label_of(name, synsets):
    if name not in synsets:
        raise ValueError(f"only_synsets must be synsets that the classifier knows, got {name!r}")
    return synsets.index(name)


def _some(names):
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
