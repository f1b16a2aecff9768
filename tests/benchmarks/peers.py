"""The same attack by other libraries and by hand: PGD linf from a random start, on the challenge CNN's weights.

Every builder takes a `Problem` and returns a function of NumPy batches, (x [B, 28, 28, 1], y [B]) -> x_adv, which has
finished when it returns. A builder raises ImportError where its library is not installed.

ART and Foolbox are measured twice, with the Keras model as their documentation has it, and with its forward pass
compiled, which their interfaces allow. Torch computes on the same weights in its own layout, channels first.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from absl import logging

Run = Callable[[np.ndarray, np.ndarray], object]


@dataclasses.dataclass(frozen=True)
class Problem:
    """The attack that everyone runs; `threads` is what a framework's pool gets."""

    model: keras.Model
    epsilon: float
    step_size: float
    steps: int
    threads: int


def prepare(threads: int) -> int:
    """Silences what peers and TensorFlow tell of every call, and gives TensorFlow so many threads, 0 for all cores of
    this process; returns their number."""
    logging.set_verbosity(logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    threads = threads or len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return threads


def cleverhans(problem: Problem) -> Run:
    """CleverHans, tf2: a Python loop over a compiled gradient."""
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    def run(x, y):
        return projected_gradient_descent(
            problem.model,
            tf.constant(x),
            problem.epsilon,
            problem.step_size,
            problem.steps,
            np.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=tf.constant(y),
            rand_init=True,
            sanity_checks=False,
        ).numpy()

    return run


def art(problem: Problem, *, compiled: bool) -> Run:
    """ART, TensorFlowV2Classifier of the Keras model as in its examples, or of a compiled function; the attack's
    TensorFlow 2 variant, the whole batch at once."""
    from art.attacks.evasion import ProjectedGradientDescentTensorFlowV2
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model=_compiled(problem.model) if compiled else problem.model,
        nb_classes=10,
        input_shape=(28, 28, 1),
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )

    def run(x, y):
        attack = ProjectedGradientDescentTensorFlowV2(
            classifier,
            eps=problem.epsilon,
            eps_step=problem.step_size,
            max_iter=problem.steps,
            num_random_init=1,
            batch_size=len(x),
            verbose=False,
        )
        return attack.generate(x, y)

    return run


def foolbox(problem: Problem, *, compiled: bool) -> Run:
    """Foolbox, TensorFlowModel, of the Keras model as in its documentation or of a compiled function."""
    import foolbox as fb

    model = fb.TensorFlowModel(_compiled(problem.model) if compiled else problem.model, bounds=(0, 1), device="/CPU:0")
    attack = fb.attacks.LinfPGD(abs_stepsize=problem.step_size, steps=problem.steps, random_start=True)

    def run(x, y):
        criterion = fb.criteria.Misclassification(tf.constant(y))
        return attack.run(model, tf.constant(x), criterion, epsilon=problem.epsilon).numpy()

    return run


def torchattacks(problem: Problem) -> Run:
    """torchattacks, PGD."""
    import torch
    import torchattacks as ta

    attack = ta.PGD(
        torch_model(problem), eps=problem.epsilon, alpha=problem.step_size, steps=problem.steps, random_start=True
    )

    def run(x, y):
        return attack(channels_first(torch, x), torch.from_numpy(y)).numpy()

    return run


def torch_by_hand(problem: Problem, *, bfloat16: bool) -> Run:
    """The plain loop that one would write in torch, channels_last, in float32 or under bfloat16 autocast."""
    import torch

    model = torch_model(problem).to(memory_format=torch.channels_last)
    epsilon, step_size = problem.epsilon, problem.step_size

    def run(x, y):
        x = channels_first(torch, x).contiguous(memory_format=torch.channels_last)
        y = torch.from_numpy(y)
        low, high = (x - epsilon).clamp_(min=0), (x + epsilon).clamp_(max=1)
        x_adv = torch.clamp(x + torch.empty_like(x).uniform_(-epsilon, epsilon), 0, 1)
        for _ in range(problem.steps):
            x_adv.requires_grad_(True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(x_adv)
            loss = torch.nn.functional.cross_entropy(logits.float(), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x_adv)
            x_adv = torch.clamp(x_adv.detach() + step_size * gradient.sign(), low, high)
        return x_adv.numpy()

    return run


PEERS: Mapping[str, Callable[[Problem], Run]] = {
    "CleverHans tf2": cleverhans,
    "ART TensorFlowV2": lambda problem: art(problem, compiled=False),
    "ART, compiled model": lambda problem: art(problem, compiled=True),
    "Foolbox TensorFlow": lambda problem: foolbox(problem, compiled=False),
    "Foolbox, compiled model": lambda problem: foolbox(problem, compiled=True),
    "torchattacks": torchattacks,
    "torch by hand, float32": lambda problem: torch_by_hand(problem, bfloat16=False),
    "torch by hand, bfloat16": lambda problem: torch_by_hand(problem, bfloat16=True),
}


def _compiled(model):
    @tf.function
    def logits(x):
        return model(x, training=False)

    # ART passes training=True when it takes a gradient; the model has no layer that would know the difference.
    return lambda x, training=False: logits(x)


def channels_first(torch, x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def torch_model(problem):
    """The challenge CNN in torch with the Keras model's weights.

    Raises:
      ValueError: for another network.
    """
    import torch

    torch.set_num_threads(problem.threads)
    conv1, conv2, dense, logits = (
        [torch.from_numpy(np.array(weight)) for weight in problem.model.get_layer(name).get_weights()]
        for name in ("conv1", "conv2", "dense", "logits")
    )
    if dense[0].shape != (7 * 7 * 64, 1024):
        raise ValueError(f"model must be the challenge CNN (--architecture=challenge), got {problem.model.name!r}")
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(7 * 7 * 64, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )
    # Keras flattens [7, 7, 64] and torch [64, 7, 7].
    features = dense[0].reshape(7, 7, 64, 1024).permute(3, 2, 0, 1).reshape(1024, -1)
    kernels = (conv1[0].permute(3, 2, 0, 1), conv2[0].permute(3, 2, 0, 1), features, logits[0].T)
    layers = [layer for layer in model if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for layer, kernel, (_, bias) in zip(layers, kernels, (conv1, conv2, dense, logits), strict=True):
            layer.weight.copy_(kernel)
            layer.bias.copy_(bias)
    return model.eval().requires_grad_(False)
