"""All norm-bounded attacks by name, for command lines and tables.

attacks = parse("fgsm, pgd:steps=100:step_size=0.01, apgd_t", ThreatModel("linf", 0.3))
evaluate(model, images, labels, attacks, seed=0)

Parameters that are not named have the defaults of the attack's class, and where that has none, those of the functions
below: PGD takes 40 steps of a quarter of epsilon.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping

from tfrobust import losses
from tfrobust.attacks.apgd import APGD
from tfrobust.attacks.base import Attack
from tfrobust.attacks.carlini_wagner import CarliniWagnerL2
from tfrobust.attacks.carlini_wagner_linf import CarliniWagnerLinf
from tfrobust.attacks.ddn import DDN
from tfrobust.attacks.deepfool import DeepFool
from tfrobust.attacks.fab import FAB
from tfrobust.attacks.fmn import FMN
from tfrobust.attacks.minimum_norm import WithinBall
from tfrobust.attacks.momentum import MomentumPGD
from tfrobust.attacks.multi_targeted import MultiTargeted
from tfrobust.attacks.odi import ODI
from tfrobust.attacks.parameter_text import read, require_known
from tfrobust.attacks.pgd import PGD, RFGSM, bim, fgsm
from tfrobust.attacks.square import Square
from tfrobust.attacks.targets import ChooseTarget, TargetedPGD, runner_up
from tfrobust.losses import LossFn
from tfrobust.threat_models import NORMS, ThreatModel


@dataclasses.dataclass(frozen=True)
class Entry:
    """An attack of the catalogue.

    Attributes:
      configuration: what makes the attack: a class, or a function. It takes the threat model as `threat`, or its `norm`
        and `bounds` where it looks for the smallest change, and parameters.
      paper: where it was published.
      file: its file in `tfrobust/attacks`.
      norms: those of the threat models in which it exists.
      defaults: of parameters, instead of those of the configuration.
      fixed: parameters that make it this attack and cannot be chosen.
    """

    configuration: Callable
    paper: str
    file: str
    norms: tuple[str, ...] = NORMS
    defaults: Mapping[str, object] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, object]:
        """What can be chosen: names of parameters, with their types."""
        unfree = {"threat", "norm", "bounds", *self.fixed}
        return {name: p.annotation for name, p in self._signature.items() if name not in unfree}

    def build(self, threat: ThreatModel, **parameters) -> Attack:
        """The attack in the threat model; a smallest change counts where it is within epsilon."""
        of_threat = {"threat": threat, "norm": threat.norm, "bounds": threat.bounds}
        given = {name: value for name, value in of_threat.items() if name in self._signature}
        attack = self.configuration(**given, **self.fixed, **{**self.defaults, **parameters})
        return attack if "threat" in given else WithinBall(attack, threat)

    @property
    def _signature(self):
        return inspect.signature(self.configuration).parameters


def _pgd(
    threat: ThreatModel,
    steps: int = 40,
    step_size: float | None = None,
    loss: LossFn = losses.cross_entropy,
    random_start: bool = True,
    restarts: int = 1,
    step_decay: float = 1.0,
) -> PGD:
    return PGD(threat, steps, _step_size(threat, steps, step_size), loss, random_start, restarts, step_decay)


def _cw_pgd(
    threat: ThreatModel,
    kappa: float = 0.0,
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    step_decay: float = 1.0,
) -> PGD:
    return _pgd(threat, steps, step_size, losses.CWMargin(kappa), random_start, restarts, step_decay)


def _targeted_pgd(
    threat: ThreatModel,
    target: ChooseTarget = runner_up,
    steps: int = 40,
    step_size: float | None = None,
    loss: LossFn = losses.cross_entropy,
    random_start: bool = True,
    restarts: int = 1,
    step_decay: float = 1.0,
) -> TargetedPGD:
    return TargetedPGD(_pgd(threat, steps, step_size, loss, random_start, restarts, step_decay), target)


def _multi_targeted(
    threat: ThreatModel,
    steps: int = 40,
    step_size: float | None = None,
    targets: int = 9,
    restarts: int = 1,
    random_start: bool = True,
) -> MultiTargeted:
    return MultiTargeted(threat, steps, _step_size(threat, steps, step_size), targets, restarts, random_start)


def _odi(
    threat: ThreatModel,
    odi_steps: int = 2,
    odi_step_size: float | None = None,
    steps: int = 40,
    step_size: float | None = None,
    loss: LossFn = losses.margin,
    random_start: bool = True,
    restarts: int = 1,
    step_decay: float = 1.0,
) -> ODI:
    pgd = _pgd(threat, steps, step_size, loss, random_start, restarts, step_decay)
    return ODI(pgd, odi_steps, odi_step_size)


def _mim(
    threat: ThreatModel,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    loss: LossFn = losses.cross_entropy,
    random_start: bool = False,
) -> MomentumPGD:
    if step_size is None:
        step_size = threat.epsilon / max(steps, 1)
    return MomentumPGD(threat, steps, step_size, decay, loss, random_start)


def _step_size(threat, steps, step_size):
    """A quarter of epsilon where nothing is given, or more where few steps would not reach the ball's surface."""
    return threat.epsilon / max(min(steps, 4), 1) if step_size is None else step_size


_CROCE_HEIN, _CARLINI_WAGNER = "Croce and Hein 2020", "Carlini and Wagner 2017"
# An evaluation passes labels, not targets.
_UNTARGETED = {"targeted": False}

CATALOGUE: dict[str, Entry] = {
    "fgsm": Entry(fgsm, "Goodfellow et al. 2015", "pgd.py"),
    "r_fgsm": Entry(RFGSM, "Tramer et al. 2018", "pgd.py", norms=("linf",)),
    "bim": Entry(bim, "Kurakin et al. 2017", "pgd.py"),
    "mim": Entry(_mim, "Dong et al. 2018", "momentum.py"),
    "pgd": Entry(_pgd, "Madry et al. 2018", "pgd.py"),
    "cw_pgd": Entry(_cw_pgd, "Madry et al. 2018, Table 1: CW", "pgd.py"),
    "targeted_pgd": Entry(_targeted_pgd, "Madry et al. 2018, Table 1: targeted", "targets.py"),
    "multi_targeted": Entry(_multi_targeted, "Gowal et al. 2019", "multi_targeted.py"),
    "odi": Entry(_odi, "Tashiro et al. 2020", "odi.py"),
    "apgd_ce": Entry(APGD, _CROCE_HEIN, "apgd.py", fixed={"loss": losses.cross_entropy, "targets": 0}),
    "apgd_dlr": Entry(APGD, _CROCE_HEIN, "apgd.py", fixed={"loss": losses.dlr, "targets": 0}),
    "apgd_t": Entry(APGD, _CROCE_HEIN, "apgd.py", defaults={"targets": 9}, fixed={"loss": losses.dlr_targeted}),
    "fab": Entry(FAB, _CROCE_HEIN, "fab.py", fixed={"targets": 0}),
    "fab_t": Entry(FAB, _CROCE_HEIN, "fab.py", defaults={"targets": 9}),
    "square": Entry(Square, "Andriushchenko et al. 2020", "square.py"),
    "cw_l2": Entry(CarliniWagnerL2, _CARLINI_WAGNER, "carlini_wagner.py", norms=("l2",), fixed=_UNTARGETED),
    "cw_linf": Entry(CarliniWagnerLinf, _CARLINI_WAGNER, "carlini_wagner_linf.py", norms=("linf",), fixed=_UNTARGETED),
    "deepfool": Entry(DeepFool, "Moosavi-Dezfooli et al. 2016", "deepfool.py", norms=("linf", "l2")),
    "ddn": Entry(DDN, "Rony et al. 2019", "ddn.py", norms=("l2",), fixed=_UNTARGETED),
    "fmn": Entry(FMN, "Pintor et al. 2021", "fmn.py", fixed=_UNTARGETED),
}


def parse(text: str, threat: ThreatModel) -> dict[str, Attack]:
    """Attacks from text: names from the catalogue, separated by commas, each with its parameters, `:name=value`.

    Integers are written as such, other numbers also as fractions (8/255), truth as true or false, and losses and
    targets by the names in `parameter_text`.

    Returns:
      The attacks by the text that each of them has, without spaces; one that comes again has its number added.

    Raises:
      ValueError: for an unknown attack or parameter, a parameter that is given twice, a value of the wrong type or out
        of range, or an attack that does not exist in the threat's norm.
    """
    attacks: dict[str, Attack] = {}
    for item in "".join(text.split()).split(","):
        name, *settings = item.split(":")
        attack = _build(name, settings, threat)
        repeats = sum(row.split(" ")[0] == item for row in attacks)
        attacks[f"{item} #{repeats + 1}" if repeats else item] = attack
    return attacks


def summary() -> str:
    """The catalogue as a table in Markdown: name, norms, paper and file of every attack."""
    rows = [("attack", "norms", "source", "file")]
    rows += [(name, ", ".join(entry.norms), entry.paper, entry.file) for name, entry in CATALOGUE.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )


def _build(name, settings, threat):
    require_known(name, CATALOGUE, "attack")
    entry = CATALOGUE[name]
    if threat.norm not in entry.norms:
        raise ValueError(f"{name} exists in {' and '.join(entry.norms)}, not in the threat model's {threat.norm}")
    parameters = {}
    for setting in settings:
        parameter, equals, value = setting.partition("=")
        require_known(parameter, entry.parameters, f"parameter of {name}")
        if not equals or parameter in parameters:
            raise ValueError(f"parameters of {name} must be given once, as name=value, got {':'.join(settings)!r}")
        parameters[parameter] = read(value, entry.parameters[parameter], f"{parameter} of {name}")
    try:
        return entry.build(threat, **parameters)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
