"""Attacks, a file for each family. `catalogue.py` has them by the names of command lines, `../suites.py` in tables.

Within a threat model, attack(logits_fn, x, y, seed=...) -> x_adv:

| attack                          | norms        | source                                        | file              |
|---------------------------------|--------------|-----------------------------------------------|-------------------|
| fgsm                            | linf, l2, l1 | Goodfellow et al. 2015                        | pgd.py            |
| RFGSM                           | linf         | Tramer et al. 2018                            | pgd.py            |
| bim                             | linf, l2, l1 | Kurakin et al. 2017                           | pgd.py            |
| PGD                             | linf, l2, l1 | Madry et al. 2018; CW by its loss (losses.py) | pgd.py            |
| TargetedPGD                     | linf, l2, l1 | Kurakin et al. 2017 with Madry's random start | targets.py        |
| MomentumPGD                     | linf, l2, l1 | Dong et al. 2018                              | momentum.py       |
| MultiTargeted                   | linf, l2, l1 | Gowal et al. 2019                             | multi_targeted.py |
| ODI                             | linf, l2, l1 | Tashiro et al. 2020                           | odi.py            |
| APGD: apgd_ce, apgd_dlr, apgd_t | linf, l2, l1 | Croce and Hein 2020, 2021                     | apgd.py           |
| FAB                             | linf, l2, l1 | Croce and Hein 2020                           | fab.py            |
| Square                          | linf, l2, l1 | Andriushchenko et al. 2020; no gradients      | square.py         |
| Transfer                        | any          | any attack on a surrogate                     | transfer.py       |

The smallest change, attack.minimize(logits_fn, x, y, seed=...) -> MinimumNorm, and WithinBall(attack, threat) for one
within a threat model (minimum_norm.py):

| attack                             | norms        | source                       | file               |
|------------------------------------|--------------|------------------------------|--------------------|
| CarliniWagnerL2, CarliniWagnerLinf | l2; linf     | Carlini and Wagner 2017      | carlini_wagner*.py |
| DeepFool                           | linf, l2     | Moosavi-Dezfooli et al. 2016 | deepfool.py        |
| DDN                                | l2           | Rony et al. 2019             | ddn.py             |
| FMN                                | linf, l2, l1 | Pintor et al. 2021           | fmn.py             |
| FAB                                | linf, l2, l1 | Croce and Hein 2020          | fab.py             |

deepfool_perturbation (deepfool_perturbation.py) is DeepFool's change as a differentiable function of the weights, which
Deep Defense trains on and rho2 measures. It neither clips nor steps over the boundary on its way, as DeepFool does.
"""

from tfrobust.attacks.apgd import APGD, apgd_ce, apgd_dlr, apgd_t
from tfrobust.attacks.base import Attack, LogitsFn
from tfrobust.attacks.carlini_wagner import CarliniWagnerL2
from tfrobust.attacks.carlini_wagner_linf import CarliniWagnerLinf
from tfrobust.attacks.ddn import DDN
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.deepfool_perturbation import deepfool_perturbation
from tfrobust.attacks.fab import FAB
from tfrobust.attacks.fmn import FMN
from tfrobust.attacks.minimum_norm import MinimumNorm, MinimumNormAttack, WithinBall
from tfrobust.attacks.momentum import MomentumPGD
from tfrobust.attacks.multi_targeted import MultiTargeted
from tfrobust.attacks.odi import ODI
from tfrobust.attacks.pgd import PGD, RFGSM, bim, fgsm
from tfrobust.attacks.square import Square
from tfrobust.attacks.targets import TargetedPGD
from tfrobust.attacks.transfer import Transfer

__all__ = [
    "APGD",
    "DDN",
    "FAB",
    "FMN",
    "ODI",
    "PGD",
    "RFGSM",
    "Attack",
    "CarliniWagnerL2",
    "CarliniWagnerLinf",
    "DeepFool",
    "LogitsFn",
    "MinimumNorm",
    "MinimumNormAttack",
    "MomentumPGD",
    "MultiTargeted",
    "Square",
    "TargetedPGD",
    "Transfer",
    "WithinBall",
    "apgd_ce",
    "apgd_dlr",
    "apgd_t",
    "bim",
    "deepfool_perturbation",
    "fgsm",
]
