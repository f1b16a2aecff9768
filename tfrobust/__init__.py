"""Adversarially robust training, attack and evaluation for TensorFlow 2 and Keras 3.

Pixels are float32 in [0, 1], models return logits, attacks ascend losses, and every random draw comes from a seed.

    from tfrobust import datasets, evaluation, suites
    from tfrobust.threat_models import ThreatModel

    test = datasets.load("mnist", "test", num_examples=1000)
    suite = suites.quick(ThreatModel("linf", epsilon=0.3))
    report = evaluation.evaluate(model, test.images, test.labels, suite, seed=0)
"""
