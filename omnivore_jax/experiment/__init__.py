"""Puts a run together: settings, data, mesh, state, checkpoints, evaluation, report.

Called by commands alone.
"""
