"""Red flags: signs that a robust accuracy says more about the attacks than about the classifier.

    flags = inspect_classifier(classifier, test.images, test.labels, threat, seed=0)
    flags += inspect_report(report, attacks)
    for flag in flags:
        print(flag)

An attack that fails proves nothing by itself: it may have failed for want of a useful gradient. These are the checks
that Athalye et al. 2018 (section 3.1) and Carlini et al. 2019 ask of every evaluation:

| red flag                                    | needs        | file          |
|---------------------------------------------|--------------|---------------|
| probabilities, random outputs               | forward pass | outputs.py    |
| no gradient, zero or non-finite gradients   | gradients    | gradients.py  |
| more steps, noise or a larger epsilon fools | small PGDs   | strength.py   |
|   less or more than it should               |              |               |
| a black-box attack or FGSM is the strongest | a report     | comparison.py |

No flag is no proof either: an attack made for the defence at hand may still break it (Tramer et al. 2020).
"""

from tfrobust.red_flags.comparison import inspect_report
from tfrobust.red_flags.flag import RedFlag
from tfrobust.red_flags.inspection import inspect_classifier

__all__ = ["RedFlag", "inspect_classifier", "inspect_report"]
