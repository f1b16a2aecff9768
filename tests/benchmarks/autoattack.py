"""What the attacks of AutoAttack, as torchattacks has them, leave of a challenge CNN: an independent second opinion.

    python -m tests.benchmarks.autoattack --model=models/mnist_challenge_cnn/model.keras --every=10 --attacks=apgd_ce

The weights are copied to torch, whose logits are compared with Keras's first. Attacks run in order on what still
stands, at linf epsilon 0.3, each with the settings of the published "standard" version.
"""

import time

import keras
import numpy as np
from absl import app, flags

from tests.benchmarks.peers import Problem, channels_first, torch_model
from tfrobust import datasets

EPSILON = 0.3


def attacks(model) -> dict:
    """torchattacks' attacks by name."""
    import torchattacks as ta

    return {
        "apgd_ce": ta.APGD(model, eps=EPSILON, steps=100, n_restarts=1),
        "apgd_t": ta.APGDT(model, eps=EPSILON, steps=100, n_classes=10),
        "fab_t": ta.FAB(model, eps=EPSILON, steps=100, multi_targeted=True, n_classes=10),
        "square": ta.Square(model, eps=EPSILON, n_queries=5000, resc_schedule=False),
    }


def main(_) -> None:
    """Prints the accuracy after each attack."""
    import torch

    values = flags.FLAGS
    classifier = keras.models.load_model(values.model, compile=False)
    test = datasets.load("mnist", "test")
    images, labels = test.images[:: values.every], test.labels[:: values.every]
    model = torch_model(Problem(classifier, EPSILON, step_size=0.01, steps=1, threads=torch.get_num_threads()))
    x, y = channels_first(torch, images), torch.from_numpy(labels)
    logits = model(x).numpy()
    difference = np.abs(logits - classifier.predict(images, batch_size=500, verbose=0)).max()
    if difference > 1e-3:
        raise ValueError(f"model must be the challenge CNN, its logits in torch differ by {difference:g}")
    standing = logits.argmax(axis=1) == labels
    print(f"{values.model}: {len(labels)} test images of MNIST, linf epsilon {EPSILON}; natural {standing.mean():.2%}")
    available = attacks(model)
    for name in values.attacks:
        start = time.perf_counter()
        for indices in np.array_split(np.flatnonzero(standing), max(1, len(labels) // values.batch_size)):
            x_adv = available[name](x[indices], y[indices]).detach()
            if (x_adv - x[indices]).abs().max() > EPSILON + 1e-5:
                raise RuntimeError(f"{name} left the ball")
            standing[indices] = model(x_adv).numpy().argmax(axis=1) == labels[indices]
        print(f"after {name}: {standing.mean():.2%}, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    # Defined here, so that importing the module defines no flag a second time.
    flags.DEFINE_string("model", None, "A .keras file of the challenge CNN.", required=True)
    flags.DEFINE_integer("every", 10, "Attack one test image in so many.", lower_bound=1)
    flags.DEFINE_multi_enum(
        "attacks", ["apgd_ce"], ["apgd_ce", "apgd_t", "fab_t", "square"], "In this order; repeatable."
    )
    flags.DEFINE_integer("batch_size", 250, "Images for each call.", lower_bound=1)
    app.run(main)
