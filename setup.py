"""Packaging of the library. `train/`, `eval/` and `tests/` are run from a checkout and are never installed."""

import pathlib

import setuptools

TEST = ["hypothesis>=6.100", "pytest>=8", "pytest-xdist>=3.6", "ruff>=0.6"]
# Rivals that benchmarks measure and parity tests compare with.
PEERS = [
    "adversarial-robustness-toolbox>=1.20",
    "cleverhans>=4.0.0",
    "foolbox>=3.3.4",
    "torch>=2.3",
    "torchattacks>=3.5",
]

setuptools.setup(
    name="tfrobust",
    version="0.1.0",
    description="Adversarially robust training, attack and evaluation for TensorFlow 2 and Keras 3",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["tfrobust", "tfrobust.*"]),
    python_requires=">=3.10,<3.14",
    install_requires=[
        "absl-py>=2.0",
        "importlib_resources>=6.0",  # tensorflow-datasets imports it without requiring it
        "keras>=3.10",
        "matplotlib>=3.8",
        "numpy>=2.0",  # compares a float32 array with a Python number in float32
        "pillow>=10",
        "requests>=2.25",
        "scikit-learn>=1.4",
        "tensorboard>=2.20",
        "tensorflow>=2.20",  # earlier ones want a protobuf that tensorflow-datasets' other requirements cannot use
        "tensorflow-datasets>=4.9.7",
        "tqdm>=4.65",
    ],
    extras_require={"gpu": ["tensorflow[and-cuda]>=2.20"], "test": TEST, "peers": PEERS},
)
