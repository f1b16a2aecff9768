"""Turns a stored classifier into a .keras file, or that and a SavedModel for serving.

    python -m eval.export --model=models/secret --output=secret.keras
    python -m eval.export --model=models/secret/checkpoint-99900 --output=served

The model is a .keras file, a training folder, one of its checkpoints, or a checkpoint of an original challenge. A
folder gets what training leaves there: model.keras, and saved_model/1, whose signatures `tfrobust/export.py` describes.
Of a run of train.imagenet, `serve_bytes` crops images as that training did; of all others it squashes them.
"""

import pathlib

from absl import flags

from eval import common, output_files, training_record
from tfrobust import checks, export, image_folders, loading

# Of the shared flags, these alone matter here.
flags.declare_key_flag("output")
flags.declare_key_flag("model")
flags.declare_key_flag("model_dir")


def main() -> None:
    """Writes --model to --output.

    Raises:
      ValueError: if --output is missing, or --model is a SavedModel, whose layers are lost, or ends in a softmax.
    """
    path = common.model_path()
    if not output_files.OUTPUT.value:
        raise ValueError("output must be given: --output=FILE.keras, or --output=FOLDER")
    classifier = loading.load_classifier(path)
    if isinstance(classifier, loading.SavedModelClassifier):
        raise ValueError(
            f"model {path} is a SavedModel, which has a function and no layers: export what it was made of, a .keras "
            "file or a checkpoint"
        )
    checks.require_logits(classifier)
    output = pathlib.Path(output_files.OUTPUT.value)
    if output.suffix == ".keras":
        export.save_keras(classifier, output)
        written = [output]
    else:
        written = [output / loading.KERAS_FILE, output / "saved_model" / "1"]
        # First, for it refuses more.
        cropped = training_record.dataset_of(path) == image_folders.NAME
        export.export_saved_model(classifier, written[1], fit="crop" if cropped else "squash")
        export.save_keras(classifier, written[0])
    shape = "x".join(map(str, classifier.input_shape[1:]))
    print(
        f"{classifier.name}, {classifier.count_params():,} parameters, {shape} pixels in [0, 1] to logits, written to"
    )
    for path in written:
        print(f"  {path}")


if __name__ == "__main__":
    common.run(main)
