"""The catalogue: every attack of it runs and keeps its threat model, and texts are read or refused with a reason."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import apgd, carlini_wagner, catalogue, fab
from tfrobust.attacks.base import describe, scaled
from tfrobust.attacks.catalogue import CATALOGUE, parse, summary
from tfrobust.attacks.minimum_norm import WithinBall
from tfrobust.attacks.momentum import MomentumPGD
from tfrobust.attacks.multi_targeted import MultiTargeted
from tfrobust.attacks.odi import ODI
from tfrobust.attacks.parameter_text import LOSSES, TARGETS, read
from tfrobust.attacks.pgd import PGD, RFGSM, bim, fgsm
from tfrobust.attacks.targets import TargetedPGD, least_likely, next_class
from tfrobust.threat_models import NORMS, ThreatModel

LINF, L2 = ThreatModel("linf", 0.3), ThreatModel("l2", 1.5)


# What the names stand for.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fgsm", fgsm(LINF)),
        ("r_fgsm:random_fraction=0.25", RFGSM(LINF, 0.25)),
        ("bim:steps=4", bim(LINF, 4)),
        ("mim", MomentumPGD(LINF, 10, 0.03)),
        ("mim:decay=0.5:steps=5:random_start=true", MomentumPGD(LINF, 5, 0.06, 0.5, random_start=True)),
        ("pgd", PGD(LINF, 40, 0.075)),
        ("pgd:steps=2", PGD(LINF, 2, 0.15)),
        ("pgd:steps=100:step_size=2/255:restarts=20", PGD(LINF, 100, 2 / 255, restarts=20)),
        ("pgd:loss=dlr:random_start=false", PGD(LINF, 40, 0.075, losses.dlr, random_start=False)),
        ("pgd:step_size=none:step_decay=0.9", PGD(LINF, 40, 0.075, step_decay=0.9)),
        ("cw_pgd", PGD(LINF, 40, 0.075, losses.CWMargin(0))),
        ("cw_pgd:kappa=50:step_decay=0.9", PGD(LINF, 40, 0.075, losses.CWMargin(50), step_decay=0.9)),
        ("targeted_pgd", TargetedPGD(PGD(LINF, 40, 0.075))),
        ("targeted_pgd:target=least_likely", TargetedPGD(PGD(LINF, 40, 0.075), least_likely)),
        ("targeted_pgd:target=next:loss=margin", TargetedPGD(PGD(LINF, 40, 0.075, losses.margin), next_class)),
        ("multi_targeted:restarts=2", MultiTargeted(LINF, 40, 0.075, restarts=2)),
        ("odi", ODI(PGD(LINF, 40, 0.075, losses.margin))),
        ("odi:odi_steps=5:odi_step_size=0.1:steps=20", ODI(PGD(LINF, 20, 0.075, losses.margin), 5, 0.1)),
        ("apgd_ce", apgd.apgd_ce(LINF)),
        ("apgd_dlr:rho=0.5", apgd.apgd_dlr(LINF, rho=0.5)),
        ("apgd_t", apgd.apgd_t(LINF)),
        ("apgd_t:targets=3", apgd.apgd_t(LINF, targets=3)),
        ("fab", fab.FAB(LINF)),
        ("fab_t", fab.FAB(LINF, targets=9)),
    ],
)
def test_attacks_by_name(text, expected):
    assert parse(text, LINF) == {text: expected}


def test_smallest_changes_count_within_epsilon():
    attack = parse("cw_l2", ThreatModel("l2", 3.0, (-1.0, 1.0)))["cw_l2"]
    assert isinstance(attack, WithinBall) and attack.threat.epsilon == 3.0
    assert isinstance(attack.attack, carlini_wagner.CarliniWagnerL2) and attack.attack.bounds == (-1.0, 1.0)
    for norm in ("linf", "l2"):
        attack = parse("deepfool:candidates=none", ThreatModel(norm, 0.5))["deepfool:candidates=none"].attack
        assert attack.norm == norm and attack.candidates is None


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [0.0, 8 / 255, 0.3])
def test_default_steps_can_cross_the_ball(norm, epsilon):
    threat = ThreatModel(norm, epsilon)
    names = [name for name in ("fgsm", "bim", "mim", "pgd", "multi_targeted") if norm in CATALOGUE[name].norms]
    texts = names + [f"{name}:steps={steps}" for name in names if name != "fgsm" for steps in (1, 3, 7)]
    for attack in parse(",".join(texts), threat).values():
        assert attack.steps * attack.step_size >= epsilon * (1 - 1e-9)


# Every attack of the catalogue.

QUICK = {"steps": 2, "queries": 4, "binary_search_steps": 2, "targets": 2, "random_start": True}


def logits_fn(x):
    """Four classes; smooth, and steep enough for small steps to change some classes."""
    flat = tf.reshape(x, [tf.shape(x)[0], -1])
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=size).astype(np.float32) for size in ((flat.shape[1], 6), (6, 4)))
    return tf.sin(flat @ first) @ second


# Pixels on both walls of the range, and others between.
X = tf.constant(np.clip(np.random.default_rng(1).uniform(-0.3, 1.3, size=(4, 3, 2, 2)), 0, 1), tf.float32)
Y = tf.constant([0, 1, 2, 3])
EPSILON = {"linf": 0.15, "l2": 0.4, "l1": 1.0}


def quick(name, threat):
    parameters = CATALOGUE[name].parameters
    return CATALOGUE[name].build(threat, **{key: value for key, value in QUICK.items() if key in parameters})


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_attack_keeps_its_threat_model(name, norm):
    threat = ThreatModel(norm, EPSILON[norm])
    if norm not in CATALOGUE[name].norms:
        with pytest.raises(ValueError, match=f"{name} exists in .*, not in the threat model's {norm}"):
            parse(name, threat)
        # The attack itself says so too.
        with pytest.raises(ValueError):
            CATALOGUE[name].build(threat)
        return
    attack = quick(name, threat)
    assert attack.threat == threat and "0x" not in describe(attack)
    x_adv = attack(logits_fn, X, Y, seed=1)
    assert x_adv.shape == X.shape and x_adv.dtype == X.dtype
    assert np.all(threat.distance(x_adv, X) <= threat.epsilon + threat.tolerance)
    assert np.min(x_adv) >= 0 and np.max(x_adv) <= 1
    if not isinstance(attack, WithinBall):
        assert np.any(threat.distance(x_adv, X) > threat.epsilon / 20)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["r_fgsm", "bim", "mim", "multi_targeted", "odi"])
def test_seed_and_epsilon_0(name, norm):
    if norm in CATALOGUE[name].norms:
        attack = quick(name, ThreatModel(norm, EPSILON[norm]))
        first = attack(logits_fn, X, Y, seed=1)
        np.testing.assert_array_equal(attack(logits_fn, X, Y, seed=1), first)
        nothing = quick(name, ThreatModel(norm, 0.0))(logits_fn, X, Y, seed=1)
        np.testing.assert_allclose(nothing, X, atol=1e-7)


@pytest.mark.parametrize("name", ["r_fgsm", "mim", "targeted_pgd", "multi_targeted", "odi"])
def test_scaled_by_a_tensor(name):
    # A warm-up of epsilon in training.
    attack = quick(name, ThreatModel("linf", 0.15))
    found = attack.scaled(tf.constant(0.5))(logits_fn, X, Y, seed=1)
    np.testing.assert_allclose(found, attack.scaled(0.5)(logits_fn, X, Y, seed=1), atol=1e-6)


@pytest.mark.parametrize("name", CATALOGUE)
def test_scaled_with_its_threat_model(name):
    (norm, *_) = CATALOGUE[name].norms
    threat = ThreatModel(norm, 0.2)
    assert scaled(quick(name, threat), 0.5).threat == threat.scaled(0.5)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_parameter_has_a_default_and_can_be_written(name):
    entry = CATALOGUE[name]
    # A targeted attack would take the labels of an evaluation for its targets.
    assert "targeted" not in entry.parameters
    assert entry.build(ThreatModel(entry.norms[0], 0.1)) is not None
    samples = ["1", "0.5", "true", "margin", "next"]
    for parameter, annotation in entry.parameters.items():
        values = []
        for text in samples:
            try:
                values.append(read(text, annotation, parameter))
            except ValueError as error:
                assert f"{parameter} must be " in str(error)
        assert values


def test_every_file_is_in_the_catalogue():
    folder = pathlib.Path(catalogue.__file__).parent
    files = {path.name for path in folder.glob("*.py") if "ThreatModel(" in path.read_text().partition("import")[0]}
    listed = {entry.file for entry in CATALOGUE.values()}
    assert all((folder / file).exists() for file in listed)
    assert files - listed <= {"catalogue.py", "transfer.py", "minimum_norm.py"}


def test_summary_is_a_table():
    header, rule, *rows = summary().splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["attack", "norms", "source", "file"]
    assert set(rule) == {"|", " ", "-"} and len({len(line) for line in summary().splitlines()}) == 1
    assert [row.split()[1] for row in rows] == list(CATALOGUE)
    assert any("ddn" in row and "l2" in row and "Rony et al. 2019" in row and "ddn.py" in row for row in rows)


# Texts.


def test_rows_are_named_by_their_text_and_are_distinct():
    attacks = parse(" fgsm, pgd : steps = 100, pgd, pgd,pgd:steps=100, pgd ", LINF)
    assert list(attacks) == ["fgsm", "pgd:steps=100", "pgd", "pgd #2", "pgd:steps=100 #2", "pgd #3"]
    assert attacks["pgd"] == attacks["pgd #3"] != attacks["pgd:steps=100 #2"] == attacks["pgd:steps=100"]


def test_rows_can_be_read_again():
    text = "fgsm,pgd:steps=7:step_size=8/255,targeted_pgd:target=random,apgd_t:targets=2,deepfool"
    for threat in (LINF, L2):
        attacks = parse(text, threat)
        assert ",".join(attacks) == text and parse(",".join(attacks), threat) == attacks
        assert {attack.threat for attack in attacks.values()} == {threat}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pdg", "attack must be one of fgsm, r_fgsm, .*, got 'pdg'; did you mean 'pgd'"),
        ("fgsm,zzz", "attack must be one of fgsm, .*, got 'zzz'$"),
        ("", "attack must be one of fgsm, .*, got ''$"),
        ("fgsm,", "attack must be one of fgsm, .*, got ''$"),
        ("pgd:step=3", "parameter of pgd must be one of steps, step_size, loss, .*, got 'step'; did you mean 'steps'"),
        ("pgd:threat=3", "parameter of pgd must be one of .*, got 'threat'"),
        ("deepfool:norm=l2", "parameter of deepfool must be one of .*, got 'norm'"),
        ("apgd_ce:loss=dlr", "parameter of apgd_ce must be one of steps, .*, got 'loss'"),
        ("pgd:steps", "parameters of pgd must be given once, as name=value, got 'steps'"),
        ("pgd:steps=1:steps=2", "parameters of pgd must be given once, as name=value, got 'steps=1:steps=2'"),
        ("pgd:steps=2.5", "steps of pgd must be an integer, got '2.5'"),
        ("pgd:steps=", "steps of pgd must be an integer, got ''"),
        ("pgd:step_size=small", "step_size of pgd must be a number or a fraction such as 8/255, got 'small'"),
        ("pgd:step_size=1/0", "step_size of pgd must be a number or a fraction such as 8/255, got '1/0'"),
        ("pgd:step_size=nan", "step_size of pgd must be a number or a fraction such as 8/255, got 'nan'"),
        ("pgd:random_start=maybe", "random_start of pgd must be true or false, got 'maybe'"),
        ("pgd:loss=xent", "loss of pgd must be one of cross_entropy, margin, dlr, cw, got 'xent'"),
        ("targeted_pgd:target=last", "target of targeted_pgd must be one of runner_up, .*, got 'last'"),
        ("pgd:steps=0", "pgd: steps must be an integer of 1 or more, got 0"),
        ("pgd:restarts=2:random_start=false", "pgd: restarts must be 1 without random_start, got 2"),
        ("ddn", "ddn exists in l2, not in the threat model's linf"),
    ],
)
def test_errors_of_texts(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text, LINF)


def test_losses_and_targets_by_name():
    for name, loss in LOSSES.items():
        assert parse(f"pgd:loss={name}", LINF)[f"pgd:loss={name}"].loss == loss
    for name, target in TARGETS.items():
        assert parse(f"targeted_pgd:target={name}", LINF)[f"targeted_pgd:target={name}"].target == target
