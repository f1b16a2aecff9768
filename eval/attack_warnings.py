"""What is said of an attack that is run as asked for, and that nobody should draw conclusions from."""

import math

from absl import logging

from eval import data_flags, training_record
from tfrobust.threat_models import ThreatModel

_warned = []


def warn_of_absurd_epsilon(name: str, threat: ThreatModel) -> None:
    """Warns of a radius, the flag `name`'s, within which lies plain grey whatever the image."""
    pixels = math.prod(data_flags.dataset_spec().image_shape)
    farthest = 0.5 * {"linf": 1.0, "l2": math.sqrt(pixels), "l1": pixels}[threat.norm]
    if threat.epsilon > farthest:
        logging.warning("%s %g can turn every image into plain grey: nothing can be robust to it", name, threat.epsilon)


def warn_of_other_data(model: str) -> None:
    """Warns if the training that the path `model` is of, if it is known, was one on other data than --dataset."""
    trained = training_record.dataset_of(model)
    if trained and trained != data_flags.DATASET.value:
        logging.warning("%s was trained on %s and is evaluated on %s", model, trained, data_flags.DATASET.value)


def warn_of_short_steps(attack) -> None:
    """Warns, once, of a PGD attack whose steps together are shorter than epsilon; also of one within another attack."""
    while not hasattr(attack, "reach") and hasattr(attack, "attack"):
        attack = attack.attack
    if hasattr(attack, "reach") and attack.reach < 0.999 * attack.threat.epsilon and attack not in _warned:
        _warned.append(attack)
        logging.warning(
            "%d steps of %g reach %g, less than epsilon %g: they cannot cross the ball, accuracy may look too high",
            *(attack.steps, attack.step_size, attack.reach, attack.threat.epsilon),
        )
