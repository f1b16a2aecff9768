"""Classifiers as files: a SavedModel with serving signatures, or a `.keras` file.

    export_saved_model(classifier, "saved_model/1")        # TensorFlow Serving looks for numbered versions
    save_keras(classifier, "model.keras")

The SavedModel needs TensorFlow alone to load. Its signatures:

    serving_default    images       float32 [B, H, W, C], pixels in [0, 1]
    serve_bytes        image_bytes  string [B], each a PNG or JPEG file of any size; see `served_images.decoder`

Both return logits float32 [B, K], probabilities float32 [B, K] and class int64 [B].

What is there already is replaced by a rename, after the new files are complete: a write that fails leaves it as it was.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile

import keras
import tensorflow as tf

from tfrobust import served_images
from tfrobust.checks import require_logits

_SAVED_MODEL_PARTS = {"assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables"}


class ExportError(RuntimeError):
    """A model cannot be written; what stood in its place is intact."""


def export_saved_model(classifier: keras.Model, directory, *, fit: served_images.Fit = "squash") -> None:
    """Writes `classifier`, in inference mode, as a SavedModel with the signatures that the module describes.

    Args:
      classifier: a built keras.Model, [B, H, W, C] pixels in [0, 1] -> [B, K] logits, with H, W, C known and C 1 or 3.
      directory: the SavedModel's folder, "saved_model/1" for TensorFlow Serving. An earlier SavedModel is replaced.
      fit: how `serve_bytes` fits images of other sizes; "crop" for a classifier that was trained on `image_folders`.

    Raises:
      ValueError: for another classifier or `fit`, or a `directory` that holds anything but a SavedModel.
      ExportError: if it cannot be written; an earlier SavedModel is intact.
    """
    serving_default, serve_bytes = _signatures(classifier, fit)
    target = pathlib.Path(directory).resolve()
    if target.exists() and not (target.is_dir() and {p.name for p in target.iterdir()} <= _SAVED_MODEL_PARTS):
        raise ValueError(f"directory must be a new folder, an empty one or an earlier SavedModel, got {target}")
    module = tf.Module()
    module.weights = [variable.value for variable in classifier.variables]
    with _replacing(target) as temporary:
        tf.saved_model.save(
            module, str(temporary), signatures={"serving_default": serving_default, "serve_bytes": serve_bytes}
        )


def save_keras(classifier: keras.Model, path) -> None:
    """Writes `classifier` as a Keras file; `keras.models.load_model` reads it.

    Args:
      classifier: a built keras.Model.
      path: of the file, ending in ".keras". An earlier file is replaced.

    Raises:
      ValueError: if `path` does not end in ".keras", or is a folder.
      ExportError: if it cannot be written; an earlier file is intact.
    """
    target = pathlib.Path(path).resolve()
    if target.suffix != ".keras":
        raise ValueError(f"path must end in '.keras', got {str(path)!r}")
    if target.is_dir():
        raise ValueError(f"path must be that of a file, got the folder {target}")
    with _replacing(target) as temporary:
        classifier.save(temporary)


def _signatures(classifier, fit):
    """The functions behind `serving_default` and `serve_bytes`, traced."""
    require_logits(classifier)
    shape = tuple(getattr(classifier, "input_shape", ()))
    if len(shape) != 4 or None in shape[1:] or shape[3] not in (1, 3):
        raise ValueError(
            "classifier must be a built model whose input_shape is [B, H, W, C] with H, W, C known and C 1 or 3, "
            f"got {shape or 'none'}"
        )
    decode = served_images.decoder(shape[1:], fit)

    def predict(images):
        # Of a signature that is called in Python nobody else checks the shape.
        images = tf.ensure_shape(images, [None, *shape[1:]])
        # Convolutions fail on a batch of no images: it gets one, whose logits are dropped.
        count = tf.shape(images)[0]
        filled = tf.pad(images, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        logits = classifier(filled, training=False)
        if not tf.is_tensor(logits) or logits.shape.rank != 2:
            raise ValueError(f"classifier must return logits [B, K], got {logits}")
        logits = tf.cast(logits[:count], tf.float32)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits), "class": tf.argmax(logits, axis=-1)}

    def predict_bytes(image_bytes):
        return predict(tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec(shape[1:], tf.float32)))

    def traced(function, spec):
        return tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()

    return (
        traced(predict, tf.TensorSpec([None, *shape[1:]], tf.float32, name="images")),
        traced(predict_bytes, tf.TensorSpec([None], tf.string, name="image_bytes")),
    )


@contextlib.contextmanager
def _replacing(target):
    """A path to write to, on the disk of `target`, that replaces `target` if the block ends well."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The name is no number: TensorFlow Serving takes no notice of it.
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
        ) as workspace:
            temporary = pathlib.Path(workspace) / target.name
            yield temporary
            if target.is_dir():
                _swap_folders(temporary, target, pathlib.Path(f"{workspace}.earlier"))
            else:
                os.replace(temporary, target)
    except (OSError, tf.errors.OpError) as error:
        # TensorFlow puts the name of its kernel first, "{{function_node ...}} ".
        reason = re.sub(r"^\{\{.*?\}\} ", "", str(error)).partition("\n")[0] or type(error).__name__
        state = "; the earlier one is intact" if target.exists() else ""
        raise ExportError(f"{target} cannot be written ({reason}){state}") from error


def _swap_folders(new, target, earlier):
    """Puts `new` in the place of `target`. No rename replaces a folder that is not empty, so there are two.

    Were the process killed between them, the earlier SavedModel would be found whole under the name `earlier`.
    """
    os.rename(target, earlier)
    try:
        os.rename(new, target)
    except BaseException:
        os.rename(earlier, target)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
