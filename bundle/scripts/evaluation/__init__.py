"""Evaluation of generated follow-ups (section 4): metrics, figures and a report."""

from scripts.evaluation.evaluator import evaluate
from scripts.evaluation.features import FeatureExtractor
from scripts.evaluation.handler import Evaluation
from scripts.predictions import PredictionError, read_predictions

__all__ = ["Evaluation", "FeatureExtractor", "PredictionError", "evaluate", "read_predictions"]
