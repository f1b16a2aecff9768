"""Classifiers as files: a SavedModel with serving signatures, or a `.keras` file.

    export_saved_model(classifier, "saved_model/1")        # TensorFlow Serving looks for numbered versions
    save_keras(classifier, "model.keras")

The SavedModel needs TensorFlow alone to load. Its signatures:

    serving_default    images       float32 [B, H, W, C], pixels in [0, 1]
    serve_bytes        image_bytes  string [B], each a PNG or JPEG file of any size; what is transparent is black

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
import numpy as np
import tensorflow as tf

from tfrobust.checks import require_logits

# What every PNG file begins with.
PNG = b"\x89PNG\r\n\x1a\n"
_SAVED_MODEL_PARTS = {"assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables"}


class ExportError(RuntimeError):
    """A model cannot be written; what stood in its place is intact."""


def export_saved_model(classifier: keras.Model, directory) -> None:
    """Writes `classifier`, in inference mode, as a SavedModel with the signatures that the module describes.

    `serve_bytes` decodes to the classifier's channels, puts what is transparent before black, resizes an image of
    another size (bilinear, antialiased) and scales to [0, 1].

    Args:
      classifier: a built keras.Model, [B, H, W, C] pixels in [0, 1] -> [B, K] logits, with H, W, C known and C 1 or 3.
      directory: the SavedModel's folder, "saved_model/1" for TensorFlow Serving. An earlier SavedModel is replaced.

    Raises:
      ValueError: for another classifier, or a `directory` that holds anything but a SavedModel.
      ExportError: if it cannot be written; an earlier SavedModel is intact.
    """
    serving_default, serve_bytes = _signatures(classifier)
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


def _signatures(classifier):
    """The functions behind `serving_default` and `serve_bytes`, traced."""
    require_logits(classifier)
    shape = tuple(getattr(classifier, "input_shape", ()))
    if len(shape) != 4 or None in shape[1:] or shape[3] not in (1, 3):
        raise ValueError(
            "classifier must be a built model whose input_shape is [B, H, W, C] with H, W, C known and C 1 or 3, "
            f"got {shape or 'none'}"
        )
    height, width, channels = shape[1:]
    # A table and no division: TensorFlow multiplies by the rounded 1/255, and pixels would differ from `datasets`'s.
    pixel_values = np.arange(256, dtype=np.float32) / np.float32(255)

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

    def opacity(image_bytes):
        def of_png():
            # Grey or colours, and alpha, where there is any.
            pixels = tf.io.decode_png(image_bytes)
            alpha = tf.gather(pixel_values, tf.cast(pixels[:, :, -1:], tf.int32))
            return tf.where(tf.shape(pixels)[-1] % 2 == 0, alpha, tf.ones_like(alpha))

        is_png = tf.strings.substr(image_bytes, 0, len(PNG)) == PNG
        return tf.cond(is_png, of_png, lambda: tf.ones([1, 1, 1]))

    def decode(image_bytes):
        pixels = tf.io.decode_image(image_bytes, channels=channels, expand_animations=False)
        image = tf.gather(pixel_values, tf.cast(pixels, tf.int32)) * opacity(image_bytes)
        image.set_shape([None, None, channels])
        resized = tf.cond(
            tf.reduce_all(tf.shape(image)[:2] == [height, width]),
            lambda: image,
            # Weights of the resize may sum to a rounding step more than 1.
            lambda: tf.clip_by_value(tf.image.resize(image, [height, width], antialias=True), 0.0, 1.0),
        )
        return tf.ensure_shape(resized, shape[1:])

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
