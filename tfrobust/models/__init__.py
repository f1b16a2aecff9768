"""Classifiers: functions that build a keras.Model on pixels in [0, 1] that returns logits."""
