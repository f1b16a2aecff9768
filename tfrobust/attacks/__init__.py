"""Attacks, a file for each family:

| attack      | norms    | source                                          | file       |
|-------------|----------|-------------------------------------------------|------------|
| fgsm        | linf, l2 | Goodfellow et al. 2015                          | pgd.py     |
| PGD         | linf, l2 | Madry et al. 2018; CW by its loss (losses.py)   | pgd.py     |
| TargetedPGD | linf, l2 | Kurakin et al. 2017 with Madry's random start   | targets.py |
"""

from tfrobust.attacks.base import Attack, LogitsFn
from tfrobust.attacks.pgd import PGD, fgsm
from tfrobust.attacks.targets import TargetedPGD

__all__ = ["PGD", "Attack", "LogitsFn", "TargetedPGD", "fgsm"]
