"""The challenges' PGD attack on a test set, stored in the challenges' format.

    python -m eval.pgd_attack --model=models/mnist_secret --store_adv_path=attack.npy
    python -m eval.pgd_attack --model=models/cifar10_secret --dataset=cifar10 --k=20 --a=1/255
    python -m eval.run_attack --model=models/mnist_secret --store_adv_path=attack.npy

What is stored of each test image is the last iterate of one run, as in the original, also of an image that was
misclassified before: the file may be meant for another model. Differences from the original: the noise is that of
--random_seed, pixels are computed in float32, and gradients as --precision says. Evaluation checks every image.
"""

import math
import time

import numpy as np
from absl import flags

from eval import attack_flags, classifiers, common, data_flags, foreign_flags, output_files
from tfrobust import attack_files
from tfrobust.attacks.base import describe

DEFAULT_PATH = "attack.npy"

flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(attack_flags)


def main() -> None:
    """Attacks --model and writes --store_adv_path."""
    foreign_flags.refuse(("suite", "rows", "attacks"), "eval.pgd_attack, whose attack is PGD by --k and --a")
    model = common.model_path()
    path = common.STORE_ADV_PATH.value or DEFAULT_PATH
    output_files.check_adversarial_path(path)
    threat = common.threat_model()
    if threat.norm != "linf":
        raise ValueError(f"norm must be linf, got {threat.norm}: files of the challenges are checked in linf")
    attack = attack_flags.pgd(threat)
    file_format = output_files.attack_file_format()
    classifier = classifiers.load(model)
    test = data_flags.load_test_set()
    total = len(test.labels)
    print(f"{model}: {total} of {file_format.num_examples} test examples of {data_flags.DATASET.value}")
    print(describe(attack))
    print(f"Iterating over {math.ceil(total / common.EVAL_BATCH_SIZE.value)} batches", flush=True)
    images = {}
    rows = common.Table({"PGD": attack}, only_standing=False)
    # Not the report's images, which are natural wherever these were misclassified.
    report = common.evaluate(classifier, test, rows, on_progress=BatchLines(), on_images=images.__setitem__)
    x_adv = images["PGD"]
    result = report.attacks[0]
    print(f"natural: {report.clean_accuracy:.2%}")
    print(f"adversarial: {result.accuracy:.2%} (the largest perturbation is {result.max_distance:.6g} of 1)")
    print("Storing examples")
    with output_files.whole_file(path) as file:
        if path.endswith(".npy"):
            attack_files.write(file, file_format, x_adv)
            units = f"{file_format.shape(total)}, pixels from 0 to {file_format.white}"
        else:
            np.savez_compressed(file, x_adv=x_adv, labels=test.labels)
            units = f"x_adv {x_adv.shape}, pixels from 0 to 1"
    print(f"Examples stored in {path}")
    print(units)


class BatchLines:
    """Prints a line for each batch that is done."""

    def __init__(self):
        self._start, self._done = time.perf_counter(), 0

    def __call__(self, name, done, total):
        seconds = time.perf_counter() - self._start
        print(f"batch size: {done - self._done} ({done}/{total}, {seconds:.0f} s)", flush=True)
        self._done = done


if __name__ == "__main__":
    common.run(main)
