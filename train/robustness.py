"""Training against an attack, and the table that tells how robust the result is."""

from collections.abc import Callable, Mapping

import keras

from eval import common as eval_common
from eval import output_files, tables
from tfrobust import checkpoints, datasets, red_flags, reports
from tfrobust.attacks.base import Attack
from train import common, recorded_flags, run_folder, session
from train.summaries import save_strip


class RobustnessTask(session.Task):
    """Trains the classifier that `build_classifier()` makes against the attack of the flags.

    It leaves report.json and adversarial_examples.png in --model_dir; with --compare_undefended it trains an undefended
    twin too, as a run of its own in the folder `undefended` there.
    """

    def __init__(self, build_classifier: Callable[[datasets.Arrays], keras.Model]):
        self._build_classifier = build_classifier

    def check(self):
        """Makes the attack and the table, which raise for flags that do not fit."""
        if eval_common.STORE_ADV_PATH.value:
            output_files.check_adversarial_path(eval_common.STORE_ADV_PATH.value)
        self._threat = eval_common.threat_model()
        self._rows = eval_common.table(self._threat)
        self._attack = common.training_attack(self._threat)

    def check_folder(self, model_dir):
        """Looks whether the twin can be made."""
        if common.COMPARE_UNDEFENDED.value:
            _Twin(self._build_classifier, model_dir, self._rows).check()

    def classifier(self, train):
        """The network of the flags."""
        return self._build_classifier(train)

    def trainer(self, classifier, train):
        """Adversarial training, or natural training with --noadversarial."""
        return common.compiled_trainer(classifier, self._attack)

    def finish(self, classifier, train, test, run):
        """Prints and saves the robustness table, and a picture of adversarial examples."""
        report = tables.print_robustness_table(
            classifier, test, self._threat, self._rows, str(run.model_dir), precision=_table_precision()
        )
        write_report(report, run, self._rows.attacks)
        if eval_common.STORE_ADV_PATH.value:
            output_files.write_adversarial_examples(eval_common.STORE_ADV_PATH.value, report, test.labels)
        self._save_picture(report, test, run.model_dir)
        if common.COMPARE_UNDEFENDED.value:
            twin = _Twin(self._build_classifier, run.model_dir, self._rows)
            print_side_by_side(report, twin.train(train, test))

    def _save_picture(self, report, test, model_dir):
        picture = model_dir / "adversarial_examples.png"
        shown = slice(session.STRIP_EXAMPLES)
        titles = [f"{y} → {p}" if y != p else f"{y}" for y, p in zip(test.labels, report.predictions, strict=True)]
        with output_files.whole_file(str(picture)) as file:
            save_strip(file, test.images[shown], report.x_adv[shown], self._threat.epsilon, titles[shown])
        print(f"saved {picture}")


class _Twin(RobustnessTask):
    """The same training without the attack, as a run of its own: stopped and gone on with like any other."""

    def __init__(self, build_classifier, model_dir, rows):
        super().__init__(build_classifier)
        self._folder, self._rows, self._attack = model_dir / "undefended", rows, None
        self.started_by = f"--flagfile={self._folder / run_folder.FLAGS_FILE} "

    def check(self):
        """Refuses a folder with another run, or with a longer one."""
        with self._flags():
            run_folder.check(self._folder)
        made = checkpoints.newest(self._folder)
        if made and checkpoints.step_of(made) > common.MAX_STEPS.value:
            raise ValueError(
                f"max_num_training_steps must be at least {checkpoints.step_of(made)}, which the undefended twin in "
                f"{self._folder} has made, got {common.MAX_STEPS.value}; deleted, it is trained again"
            )

    def train(self, train, test):
        """Makes the run and returns its report."""
        print()
        with self._flags():
            session.run_on(self, train, test)
        return self._report

    def finish(self, classifier, train, test, run):
        """Measures without a table: both stand side by side."""
        self._report = eval_common.evaluate(classifier, test, self._rows, precision=_table_precision())
        write_report(self._report, run, self._rows.attacks)

    def _flags(self):
        """The flags of the twin, which are also those that its folder records."""
        values = {"model_dir": str(self._folder), "adversarial": False, "compare_undefended": False}
        values |= {"clean_weight": 0.0, "checkpoint": None, "store_adv_path": None}
        return recorded_flags.changed(values)


def _table_precision():
    """Of the attacks in the table. A run that is replayed from flags.txt, where "auto" has become what the network was
    trained in, is measured as it was the first time."""
    return "auto" if eval_common.PRECISION.value == "bfloat16" else None


def write_report(report: reports.Report, run: session.Finished, attacks: Mapping[str, Attack]) -> None:
    """report.json of a run, and what in the report is not to be trusted, which is printed."""
    found = red_flags.inspect_report(report, attacks)
    for flag in found:
        print(f"red flag, {flag}")
    content = output_files.report_content(report, found) | run.as_json()
    output_files.write_json(str(run.model_dir / "report.json"), content)


def print_side_by_side(report: reports.Report, undefended: reports.Report) -> None:
    """The accuracies of both under each attack."""
    rows = [("natural", report.clean_accuracy, undefended.clean_accuracy)]
    rows += [(a.name, a.accuracy, b.accuracy) for a, b in zip(report.attacks, undefended.attacks, strict=True)]
    rows += [("worst case", report.robust_accuracy, undefended.robust_accuracy)]
    width = max(len(name) for name, _, _ in rows)
    print(f"\n{'accuracy':{width}}  {'robust':>9}  {'undefended':>10}")
    for name, robust, other in rows:
        print(f"{name:{width}}  {robust:>9.2%}  {other:>10.2%}")
