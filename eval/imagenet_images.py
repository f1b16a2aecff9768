"""The images that eval.imagenet attacks: where they come from, and which are chosen."""

import os
import pathlib

import numpy as np
from absl import flags, logging

from eval import batched_logits, common, data_flags, imagenet_models
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
    logits_of = batched_logits.of(classifier)
    for start in range(0, len(source), size_of_batch):
        images, indices, bad = source.decode(
            range(start, min(start + size_of_batch, len(source))), size, squash=SQUASH.value
        )
        faults += bad
        if len(indices):
            readable.append(indices)
            logits.append(logits_of(images))
            _check_synsets(logits[0].shape[1], synsets)
    for fault in faults:
        logging.warning("left out: %s", fault)
    if not readable:
        raise ValueError("data_dir must hold images that can be read, got none")
    logits, readable = np.concatenate(logits), np.concatenate(readable)
    picked = image_selection.select(
        logits,
        source.labels[readable],
        num_classes=NUM_CLASSES.value,
        images_per_class=PER_CLASS.value,
        seed=common.SEED.value,
        names=synsets,
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
    some = {
        "per_class": PER_CLASS.value * CANDIDATES.value,
        "num_classes": NUM_CLASSES.value * CANDIDATES.value,
        "only": ONLY.value,
        "seed": common.SEED.value,
    }
    folder = data_flags.DATA_DIR.value
    if not folder and not IMAGENET2012.value:
        raise ValueError("data_dir must be given: --data_dir=FOLDER, which holds a folder of images for each synset")
    beside = [f"{folder}/synsets.txt", f"{folder}/../synsets.txt"] if folder and not IMAGENET2012.value else []
    listed = SYNSETS.value or next((path for path in beside if os.path.isfile(path)), None)
    if listed:
        synsets, names = candidates.synsets_of(listed)
    else:
        synsets = names = candidates.tfds_synsets() if IMAGENET2012.value else candidates.folders_of(folder)
    _check_only(synsets)
    if IMAGENET2012.value:
        return candidates.from_tfds(folder, synsets, **some), synsets, names
    return candidates.from_folder(folder, synsets, **some), synsets, names


def _check_only(synsets):
    """What can be wrong with --only_synsets."""
    names = ONLY.value
    if names is None:
        return
    unknown = [name for name in names if name not in synsets]
    if unknown:
        raise ValueError(f"only_synsets must be synsets that the classifier knows, got {unknown[0]!r}")
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"only_synsets must be two or more, each once, got {names}: targets are other ones")


def _check_synsets(num_classes, synsets):
    if num_classes != len(synsets):
        raise ValueError(
            f"synsets must be as many as the {num_classes} classes of the classifier, in their order, got "
            f"{len(synsets)}: --synsets=FILE"
        )


def _some(names):
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
