"""eval.training_epsilon: its runs and what they are trained against, its rows, that it goes on, and bad input."""

import csv

import pytest
from absl import flags
from absl.testing import flagsaver

from eval import common, training_epsilon
from train import runs

QUICK = [
    "--dataset=digits",
    "--architecture=capacity",
    "--capacity=4",
    "--max_num_training_steps=150",
    "--num_summary_steps=20",
    "--training_batch_size=50",
    "--learning_rate=0.003",
    "--loss_reduction=mean",
    "--clean_weight=0.5",
    "--epsilon=0.05",
    "--k=1",
    "--a=0.05",
    "--norandom_start",
    "--num_eval_examples=100",
    "--precision=float32",
    "--random_seed=0",
    "--attacks=pgd:steps=5",
    "--epsilons=0,0.1,0.3",
]


@flagsaver.flagsaver
def call(*arguments):
    common.guarded(training_epsilon.main, flags.FLAGS(["training_epsilon", *QUICK, *arguments]))


def test_curves(tmp_path, capsys, killed_at):
    output, folder = tmp_path / "study", tmp_path / "runs"
    arguments = [f"--model_dir={folder}", f"--output={output}", "--training_epsilons=0.1,0"]

    def named(path, attack, measure, **varied):
        return path.name, attack and (attack.threat.epsilon, attack.steps, attack.step_size), varied

    made = killed_at(runs, "make", 2, named)
    with pytest.raises(SystemExit):
        call(*arguments)
    call(*arguments)
    # FGSM at the epsilon of the run: --a is in proportion to it.
    natural, fgsm = ("epsilon_0", None, {"clean_weight": 0.0}), ("epsilon_0.1", (0.1, 1, 0.1), {"clean_weight": 0.5})
    assert made == [natural, fgsm, fgsm]
    recorded = (folder / "epsilon_0.1" / "flags.txt").read_text()
    # What they record makes them again.
    assert {"--clean_weight=0.5", "--training_epsilon=0.1", "--k=1", "--a=0.1"} <= set(recorded.splitlines())
    assert "--noadversarial" in (folder / "epsilon_0" / "flags.txt").read_text().splitlines()
    assert (folder / "epsilon_0" / "model.keras").exists()
    with open(f"{output}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    accuracy = {(float(row["training_epsilon"]), float(row["epsilon"])): float(row["accuracy"]) for row in rows}
    assert list(accuracy) == [(0, 0), (0, 0.1), (0, 0.3), (0.1, 0), (0.1, 0.1), (0.1, 0.3)]
    assert accuracy[0, 0] > 0.8 and accuracy[0.1, 0.1] > accuracy[0, 0.1] + 0.1
    assert f"{accuracy[0.1, 0.1]:.2%}" in capsys.readouterr().out
    picture = output.with_suffix(".png")
    size = picture.stat().st_size
    picture.unlink()
    call("--redraw", f"--output={output}")
    assert picture.stat().st_size == size > 5000 and len(made) == 3


RUN = ["--model_dir=runs", "--training_epsilons=0,0.1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "training_epsilons must be one or more"),
        (["--training_epsilons=0,x"], "training_epsilons must be a number or a fraction such as 8/255, got 'x'"),
        (["--training_epsilons=0,8"], "epsilon must be at most 1 for pixels in [0.0, 1.0], got 8.0"),
        (["--training_epsilons=0,0.1"], "model_dir must be given"),
        ([*RUN, "--epsilons=0.1"], "epsilons must be two or more"),
        ([*RUN, "--attacks=nothing"], "attack must be one of"),
        ([*RUN, "--epsilon=0"], "epsilon must be above 0, and adversarial true"),
        ([*RUN, "--noadversarial"], "epsilon must be above 0, and adversarial true"),
        ([*RUN, "--training_epsilon=0.1"], "training_epsilon is not for eval.training_epsilon, whose runs have"),
        ([*RUN, "--architecture=wide"], "architecture must be one of challenge, "),
        (["--redraw"], "output must be given with --redraw"),
    ],
)
def test_bad_input(refuses, arguments, message):
    refuses(call, arguments, message)
