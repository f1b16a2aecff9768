"""Scores a file of adversarial test examples as the challenges do.

    python -m eval.run_attack --model=models/mnist_secret --store_adv_path=attack.npy
    python -m eval.run_attack --model=models/cifar10_secret --dataset=cifar10 --store_adv_path=attack.npy

Prints the accuracy of --model on the file and saves its predictions in `pred.npy`, int64 and one for each image. The
file is checked first (see `attack_files`): one that is no valid attack gets the original's words and exit code 1, and
nothing is written.
"""

import numpy as np
import tensorflow as tf
from absl import flags

from eval import classifiers, common, data_flags, output_files
from tfrobust import attack_files, checks, precision

DEFAULT_PATH = "attack.npy"

PRED_PATH = flags.DEFINE_string("pred_path", "pred.npy", "Where eval.run_attack saves the predictions.")
flags.adopt_module_key_flags(common)


def main() -> None:
    """Checks --store_adv_path and scores it."""
    model = common.model_path()
    path = common.STORE_ADV_PATH.value or DEFAULT_PATH
    output_files.check_output_path(PRED_PATH.value)
    threat = common.threat_model()
    if threat.norm != "linf":
        raise ValueError(f"norm must be linf, got {threat.norm}: files of the challenges are checked in linf")
    file_format = output_files.attack_file_format()
    test = data_flags.load_test_set()
    try:
        x_adv = attack_files.read(path, file_format, test.images, threat.epsilon)
    except attack_files.AttackFileError as error:
        for line in error.verdict:
            print(line, flush=True)
        raise ValueError(f"{path} is no valid attack: {error.reason}") from error
    classifier = classifiers.load(model)
    with common.device():
        predictions = predict(classifier, x_adv, test.labels, common.EVAL_BATCH_SIZE.value)
    with output_files.whole_file(PRED_PATH.value) as file:
        np.save(file, predictions)
    print(f"Accuracy: {100 * np.mean(predictions == test.labels):.2f}%")
    print(f"Output saved at {PRED_PATH.value}")


def predict(classifier, images: np.ndarray, labels: np.ndarray, batch_size: int) -> np.ndarray:
    """The classes int64 [N] of images [N, H, W, C], in float32 and in batches of one shape.

    Raises:
      ValueError: for a classifier that does not take the images, or does not return finite logits.
    """
    logits_fn = precision.inference(classifier)
    checks.check_classifier(logits_fn, images[:batch_size], labels)
    look = tf.function(lambda x: tf.cast(logits_fn(x), tf.float32), autograph=False)
    parts = []
    for start in range(0, len(images), batch_size):
        # The last batch is filled up with its last image.
        batch = np.minimum(np.arange(start, start + batch_size), len(images) - 1)
        parts.append(look(images[batch]).numpy())
    logits = np.concatenate(parts)[: len(images)]
    if not np.isfinite(logits).all():
        # An argmax over NaN is some class all the same.
        raise ValueError("classifier must return finite logits, got NaN or infinity")
    return logits.argmax(axis=1)


if __name__ == "__main__":
    common.run(main)
