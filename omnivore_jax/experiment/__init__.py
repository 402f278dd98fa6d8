"""Puts a run together: settings, data, mesh, state, checkpoints, evaluation and report. Commands call it; no library does."""
