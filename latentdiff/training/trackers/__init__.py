"""Trackers of experiments, W&B, MLflow and Trackio: metrics, settings, grids and the model of a run.

Each tracker is a Lightning logger behind a guard: one that fails is left out from then on, and the training goes on.
"""
