"""Fine-tunes a trained classifier by Deep Defense, or by a method that it is compared with (Yan, Guo and Zhang 2018).

    python -m train.deep_defense --flagfile=train/flags/deep_defense_mnist_mlp.flags --reference=models/mnist_mlp
    python -m train.deep_defense --flagfile=train/flags/deep_defense_mnist_mlp.flags --reference=models/mnist_mlp \
        --method=parseval --model_dir=models/mlp_parseval

Accuracy and rho2 are written after every epoch, to curve.csv and TensorBoard. A run that was stopped goes on where it
was when the same command is given again.
"""

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from eval import common as eval_common
from eval import data_flags, deep_defense_measures, foreign_flags, output_files, provenance, reference, tables
from tfrobust import datasets, image_folders
from tfrobust.attacks import fgsm
from tfrobust.attacks.deepfool_perturbation import deepfool_perturbation
from tfrobust.precision import AttackTwin, inference
from tfrobust.trainers import AdversarialTrainer, DeepDefense, DeepDefenseTrainer, ParsevalTrainer
from train import common, optimizer_flags, session
from train.curve import Curve

METHODS = ("deep_defense", "parseval", "adv_train_1", "adv_train_2", "clean")
METHOD = flags.DEFINE_enum(
    "method",
    "deep_defense",
    METHODS,
    "parseval: Cisse et al. 2017; adv_train_1: on a fixed set that DeepFool makes of the training set with the "
    "reference; adv_train_2: on natural images, weighted by --clean_weight, and those of FGSM with --epsilon; clean: "
    "nothing but fine-tuning.",
)
LAMBDA = flags.DEFINE_float("lambda", 15.0, "Weight of Deep Defense's regulariser.", lower_bound=0.0)
C = flags.DEFINE_float("c", 25.0, "Deep Defense: scale of correctly classified images.", lower_bound=0.0)
D = flags.DEFINE_float("d", 5.0, "Deep Defense: scale of misclassified images.", lower_bound=0.0)
ITERATIONS = flags.DEFINE_integer("deepfool_iterations", 5, "Deep Defense: steps of DeepFool.", lower_bound=1)
DEEPFOOL_NORM = flags.DEFINE_enum("deepfool_norm", "l2", ["l2", "linf"], "Deep Defense: norm of the perturbation.")
LAYERS = flags.DEFINE_list("regularized_layers", None, "Deep Defense: layers that it moves, by name; default: all.")
BETA = flags.DEFINE_float("parseval_beta", 3e-4, "Parseval: length of the step after each update.", lower_bound=0.0)
FRACTION = flags.DEFINE_float("parseval_fraction", 0.3, "Parseval: part of the columns in a step.", 1e-6, 1.0)
COMBINE = flags.DEFINE_bool(
    "combine_adversarial", False, "Deep Defense: with the cross-entropy of adv_train_2 (the paper's combination)."
)
CURVE_EXAMPLES = flags.DEFINE_integer(
    "curve_examples", 2000, "Test examples, the first ones, of the curve; 0 for all.", lower_bound=0
)
flags.adopt_module_key_flags(common)
flags.adopt_module_key_flags(reference)

# Of the set that adversarial training I is made on, as in DeepFool's own experiment.
SET_ITERATIONS = 50


# They are for training binaries that build a network, and attack it by PGD.
_FOREIGN = (
    *(
        "architecture",
        "initializer",
        "dropout",
        "capacity",
        "input_scale",
        "adversarial",
        "training_epsilon",
        "compare_undefended",
    ),
    *("k", "a", "random_start", "loss_func", "step_decay"),
    *("suite", "attacks", "rows", "store_adv_path"),
)


class DeepDefenseTask(session.Task):
    """Fine-tuning by --method."""

    flags = tuple(
        holder.name
        for holder in (
            *(METHOD, reference.REFERENCE, LAMBDA, C, D, ITERATIONS, DEEPFOOL_NORM, LAYERS),
            *(BETA, FRACTION, COMBINE, CURVE_EXAMPLES),
        )
    )

    def check(self):
        """Looks at the flags and for the reference."""
        reference.check()
        foreign_flags.refuse(_FOREIGN, "train.deep_defense, which fine-tunes --reference by --method")
        if METHOD.value == "deep_defense" and optimizer_flags.LOSS_REDUCTION.value != "mean":
            raise ValueError("loss_reduction must be mean for Deep Defense, whose regulariser is a mean, got sum")
        if METHOD.value == "adv_train_1" and data_flags.DATASET.value == image_folders.NAME:
            raise ValueError("method must not be adv_train_1 for imagefolder: it holds all images in memory")
        self._attack = None
        if METHOD.value == "adv_train_2" or (METHOD.value == "deep_defense" and COMBINE.value):
            if not common.CLEAN_WEIGHT.value:
                raise ValueError("clean_weight must be above 0 beside FGSM: --clean_weight=0.5 is Goodfellow et al.'s")
            self._attack = fgsm(eval_common.threat_model())
        elif common.RELU_WINDOW_SHARE.value:
            raise ValueError("relu_window_share is for --method=adv_train_2 and --combine_adversarial")
        elif common.CLEAN_WEIGHT.value:
            raise ValueError("clean_weight is for --method=adv_train_2 and --combine_adversarial")

    def classifier(self, train):
        """The reference, with batch normalisation frozen."""
        self._examples = len(train.labels)
        # Of all training images, whatever is left out, for eval.deep_defense has the same.
        self._center = reference.mean_image(data_flags.load_training_set() if common.HELD_OUT.value else train)
        classifier = reference.load(reference.REFERENCE.value, self._center)
        for layer in classifier.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        return classifier

    def training_data(self, train):
        """The training set; for adversarial training I what DeepFool makes of it with the reference."""
        if METHOD.value != "adv_train_1":
            return train
        return deepfool_set(reference.load(reference.REFERENCE.value, self._center), train)

    def trainer(self, classifier, train):
        """The trainer of --method."""
        # One, compiled once, for the curve and the end.
        self._meter = deep_defense_measures.rho_meter(classifier, self._center)
        options = common.trainer_options(self._attack)
        if METHOD.value == "deep_defense":
            regularizer = DeepDefense(
                strength=LAMBDA.value,
                c=C.value,
                d=D.value,
                iterations=ITERATIONS.value,
                norm=DEEPFOOL_NORM.value,
                center=self._center,
            )
            trainer = DeepDefenseTrainer(classifier, regularizer, self._attack, layers=LAYERS.value, **options)
        elif METHOD.value == "parseval":
            trainer = ParsevalTrainer(classifier, beta=BETA.value, fraction=FRACTION.value, **options)
        else:
            trainer = AdversarialTrainer(classifier, self._attack, **options)
        return common.compiled(trainer)

    def callbacks(self, test, model_dir, start_step):
        """The curve."""
        count = CURVE_EXAMPLES.value or len(test.labels)
        shown = datasets.Arrays(*(part[:count] for part in test))
        every = common.steps_per_epoch(self._examples)
        return [Curve(model_dir, shown, self._meter, start_step=start_step, every=every)]

    def finish(self, classifier, train, test, run):
        """Prints accuracy and rho2 on the test set and writes them to report.json."""
        found = deep_defense_measures.measure(classifier, test, self._meter)
        print(f"accuracy {found['accuracy']:.2%}, rho2 {found['rho2']:.4g} (50 iterations), {found['rho2_5']:.4g} (5)")
        content = {"method": METHOD.value, "num_examples": len(test.labels), **run.as_json()}
        content |= {**found, **provenance.made_by()}
        output_files.write_json(str(run.model_dir / "report.json"), content)


def deepfool_set(classifier: keras.Model, train: datasets.Arrays, batch_size: int = 500) -> datasets.Arrays:
    """The training images as DeepFool changes them, with their labels (Moosavi-Dezfooli et al. 2016, section 4.2).

    As there they are not clipped: a change that only just crosses a boundary would not survive it.
    """
    twin = AttackTwin(classifier, eval_common.PRECISION.value)

    @tf.function(autograph=False, reduce_retracing=True)
    def perturb(x):
        logits_fn = inference(classifier)
        y = tf.argmax(logits_fn(x), axis=-1)
        options = {"iterations": SET_ITERATIONS, "choose_fn": twin.logits_fn(), "differentiable": False}
        found = deepfool_perturbation(logits_fn, x, y, **options)
        return x + found.delta

    print(f"making {len(train.labels)} images with DeepFool", flush=True)
    parts = []
    for start in range(0, len(train.labels), batch_size):
        parts.append(perturb(train.images[start : start + batch_size]).numpy())
        tables.show_progress("DeepFool", start + len(parts[-1]), len(train.labels))
    tables.clear_progress()
    return datasets.Arrays(np.concatenate(parts), train.labels)


def main() -> None:
    """Fine-tunes, saves, measures."""
    session.run(DeepDefenseTask())


if __name__ == "__main__":
    # The regulariser is a mean.
    flags.FLAGS.set_default("loss_reduction", "mean")
    eval_common.run(main)
