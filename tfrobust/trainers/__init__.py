"""Training methods, each a keras.Model that wraps a classifier and trains it."""

from tfrobust.trainers.adversarial import AdversarialTrainer

__all__ = ["AdversarialTrainer"]
