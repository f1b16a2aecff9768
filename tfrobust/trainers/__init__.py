"""Training methods, each a keras.Model that wraps a classifier and trains it."""

from tfrobust.trainers.adversarial import AdversarialTrainer
from tfrobust.trainers.deep_defense import DeepDefense, DeepDefenseTrainer
from tfrobust.trainers.parseval import ParsevalTrainer

__all__ = ["AdversarialTrainer", "DeepDefense", "DeepDefenseTrainer", "ParsevalTrainer"]
