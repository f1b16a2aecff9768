"""The flags that move training images at random."""

from absl import flags

from tfrobust.augmentation import INTERPOLATIONS, Augmentation

RANDOM_ROTATION = flags.DEFINE_float(
    "random_rotation", 0.0, "Turn training images by up to so many degrees, either way.", 0.0, 180.0
)
RANDOM_ZOOM = flags.DEFINE_float(
    "random_zoom", 0.0, "Enlarge or shrink training images by up to this fraction.", 0.0, 0.9
)
RANDOM_ELASTIC = flags.DEFINE_float(
    "random_elastic",
    0.0,
    "Deform training images by smooth random fields of this standard deviation in pixels.",
    lower_bound=0.0,
)
INTERPOLATION = flags.DEFINE_enum(
    "random_interpolation",
    "bilinear",
    INTERPOLATIONS,
    "Values of turned, zoomed and deformed training images: bilinear blurs, nearest does not.",
)
RANDOM_SHIFT = flags.DEFINE_integer(
    "random_shift", 0, "Move training images by up to so many pixels in each direction.", lower_bound=0
)
RANDOM_FLIP = flags.DEFINE_bool("random_flip", False, "Mirror training images with probability 1/2.")


def augmentation() -> Augmentation:
    """What the flags do to training images."""
    return Augmentation(
        rotation=RANDOM_ROTATION.value,
        zoom=RANDOM_ZOOM.value,
        elastic=RANDOM_ELASTIC.value,
        shift=RANDOM_SHIFT.value,
        flip=RANDOM_FLIP.value,
        interpolation=INTERPOLATION.value,
    )
