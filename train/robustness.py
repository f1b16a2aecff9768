"""Training against an attack, and the table that tells how robust the result is."""

from collections.abc import Callable

import keras

from eval import common as eval_common
from eval import output_files, tables
from tfrobust import datasets, reports
from train import common, optimizer_flags, session
from train.summaries import save_strip


class RobustnessTask(session.Task):
    """Trains the classifier that `build_classifier()` makes against the attack of the flags.

    It leaves report.json and adversarial_examples.png in --model_dir; with --compare_undefended it trains an undefended
    twin too, and leaves undefended_report.json.
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

    def classifier(self, train):
        """The network of the flags."""
        return self._build_classifier(train)

    def trainer(self, classifier, train):
        """Adversarial training, or natural training with --noadversarial."""
        return common.compiled_trainer(classifier, self._attack)

    def finish(self, classifier, train, test, model_dir, step):
        """Prints and saves the robustness table, and a picture of adversarial examples."""
        report = tables.print_robustness_table(classifier, test, self._threat, self._rows, str(model_dir))
        output_files.write_json(str(model_dir / "report.json"), output_files.report_content(report))
        if eval_common.STORE_ADV_PATH.value:
            output_files.write_adversarial_examples(eval_common.STORE_ADV_PATH.value, report, test.labels)
        self._save_picture(report, test, model_dir)
        if common.COMPARE_UNDEFENDED.value:
            self._train_undefended(report, train, test, model_dir)

    def _save_picture(self, report, test, model_dir):
        picture = model_dir / "adversarial_examples.png"
        shown = slice(session.STRIP_EXAMPLES)
        titles = [f"{y} → {p}" if y != p else f"{y}" for y, p in zip(test.labels, report.predictions, strict=True)]
        with output_files.whole_file(str(picture)) as file:
            save_strip(file, test.images[shown], report.x_adv[shown], self._threat.epsilon, titles[shown])
        print(f"saved {picture}")

    def _train_undefended(self, report, train, test, model_dir):
        with common.strategy().scope():
            twin = common.compiled_trainer(self._build_classifier(train), None)
        total, size = common.MAX_STEPS.value, optimizer_flags.BATCH_SIZE.value
        print(f"\ntraining the undefended twin: {total} steps of {size} natural images", flush=True)
        stream = session.training_batches(train, 0)
        twin.fit(stream, callbacks=[session.progress(0)], verbose=0, shuffle=False)
        undefended = eval_common.evaluate(twin.classifier, test, self._rows)
        output_files.write_json(str(model_dir / "undefended_report.json"), output_files.report_content(undefended))
        print_side_by_side(report, undefended)


def print_side_by_side(report: reports.Report, undefended: reports.Report) -> None:
    """The accuracies of both under each attack."""
    rows = [("natural", report.clean_accuracy, undefended.clean_accuracy)]
    rows += [(a.name, a.accuracy, b.accuracy) for a, b in zip(report.attacks, undefended.attacks, strict=True)]
    rows += [("worst case", report.robust_accuracy, undefended.robust_accuracy)]
    width = max(len(name) for name, _, _ in rows)
    print(f"\n{'accuracy':{width}}  {'robust':>9}  {'undefended':>10}")
    for name, robust, other in rows:
        print(f"{name:{width}}  {robust:>9.2%}  {other:>10.2%}")
