"""The attacks of the benchmark in other libraries, on the challenge CNN's weights.

Every builder takes a `Problem` and returns a function of NumPy batches, (x [B, 28, 28, 1], y [B]) -> x_adv, float32 in
the layout of x. A builder raises ImportError where its library is not installed.
"""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tests.benchmarks import peers

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Problem:
    """What everyone attacks; budgets are those of every library.

    Carlini and Wagner's attack makes `cw_steps` steps of Adam in each of `cw_searches` searches for its constant.
    torchattacks does not search: it makes all these steps with the first constant.
    """

    model: keras.Model
    epsilon: float
    steps: int
    queries: int
    cw_steps: int
    cw_searches: int
    cw_const: float
    cw_learning_rate: float
    threads: int


def torchattacks(name: str) -> Callable[[Problem], Run]:
    """An attack of torchattacks, with the settings of AutoAttack "standard"."""

    def build(problem: Problem) -> Run:
        import torch
        import torchattacks as ta

        model = _torch_model(problem)
        common = {"eps": problem.epsilon, "norm": "Linf", "seed": 0}
        attack = {
            "apgd_ce": lambda: ta.APGD(model, steps=problem.steps, **common),
            "apgd_t": lambda: ta.APGDT(model, steps=problem.steps, n_classes=10, **common),
            "fab_t": lambda: ta.FAB(model, steps=problem.steps, multi_targeted=True, n_classes=10, **common),
            "square": lambda: ta.Square(model, n_queries=problem.queries, resc_schedule=False, **common),
            "cw_l2": lambda: ta.CW(
                model, c=problem.cw_const, steps=problem.cw_steps * problem.cw_searches, lr=problem.cw_learning_rate
            ),
            "deepfool": lambda: ta.DeepFool(model, steps=50),
        }[name]()

        def run(x, y):
            found = attack(peers.channels_first(torch, x), torch.from_numpy(y))
            return found.detach().numpy().transpose(0, 2, 3, 1)

        return run

    return build


def torchattacks_autoattack(problem: Problem) -> Run:
    """The four attacks in order, each on what the ones before left standing."""
    import torch

    attacks = [torchattacks(name)(problem) for name in ("apgd_ce", "apgd_t", "fab_t", "square")]
    model = _torch_model(problem)

    def run(x, y):
        x_adv = x.copy()
        for attack in attacks:
            with torch.no_grad():
                standing = model(peers.channels_first(torch, x_adv)).numpy().argmax(axis=1) == y
            if standing.any():
                x_adv[standing] = attack(x[standing], y[standing])
        return x_adv

    return run


def foolbox(name: str) -> Callable[[Problem], Run]:
    """A minimum-norm attack of Foolbox on the compiled Keras model."""

    def build(problem: Problem) -> Run:
        import foolbox as fb

        model = fb.TensorFlowModel(_compiled(problem.model), bounds=(0, 1), device="/CPU:0")
        attack = {
            "cw_l2": lambda: fb.attacks.L2CarliniWagnerAttack(
                binary_search_steps=problem.cw_searches,
                steps=problem.cw_steps,
                stepsize=problem.cw_learning_rate,
                initial_const=problem.cw_const,
            ),
            "deepfool": lambda: fb.attacks.L2DeepFoolAttack(steps=50, candidates=10),
        }[name]()

        def run(x, y):
            found, _, _ = attack(model, tf.constant(x), fb.criteria.Misclassification(tf.constant(y)), epsilons=None)
            return found.numpy()

        return run

    return build


def art(name: str) -> Callable[[Problem], Run]:
    """An attack of ART on the compiled Keras model."""

    def build(problem: Problem) -> Run:
        from art.attacks import evasion
        from art.estimators.classification import TensorFlowV2Classifier

        classifier = TensorFlowV2Classifier(
            model=_compiled(problem.model),
            nb_classes=10,
            input_shape=(28, 28, 1),
            loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            clip_values=(0.0, 1.0),
        )

        def run(x, y):
            attack = {
                "apgd_ce": lambda: evasion.AutoProjectedGradientDescent(
                    classifier, eps=problem.epsilon, eps_step=2 * problem.epsilon, max_iter=problem.steps,
                    nb_random_init=1, batch_size=len(x), loss_type="cross_entropy", verbose=False,
                ),
                "square": lambda: evasion.SquareAttack(
                    classifier, eps=problem.epsilon, max_iter=problem.queries, batch_size=len(x), p_init=0.8,
                    verbose=False,
                ),
                "cw_l2": lambda: evasion.CarliniL2Method(
                    classifier, binary_search_steps=problem.cw_searches, max_iter=problem.cw_steps,
                    learning_rate=problem.cw_learning_rate, initial_const=problem.cw_const, batch_size=len(x),
                    verbose=False,
                ),
                "deepfool": lambda: evasion.DeepFool(
                    classifier, max_iter=50, batch_size=len(x), nb_grads=10, verbose=False
                ),
            }[name]()  # fmt: skip
            return attack.generate(x, keras.utils.to_categorical(y, 10))

        return run

    return build


PEERS: Mapping[str, Mapping[str, Callable[[Problem], Run]]] = {
    "apgd_ce": {"torchattacks": torchattacks("apgd_ce"), "ART": art("apgd_ce")},
    "apgd_t": {"torchattacks": torchattacks("apgd_t")},
    "fab_t": {"torchattacks": torchattacks("fab_t")},
    "square": {"torchattacks": torchattacks("square"), "ART": art("square")},
    "cw_l2": {"torchattacks": torchattacks("cw_l2"), "Foolbox": foolbox("cw_l2"), "ART": art("cw_l2")},
    "deepfool": {"torchattacks": torchattacks("deepfool"), "Foolbox": foolbox("deepfool"), "ART": art("deepfool")},
    "autoattack": {"torchattacks": torchattacks_autoattack},
}


def _torch_model(problem):
    return peers.torch_model(peers.Problem(problem.model, problem.epsilon, 0.01, 1, problem.threads))


def _compiled(model):
    @tf.function(reduce_retracing=True)
    def logits(x):
        return model(x, training=False)

    return lambda x, training=False: logits(x)
