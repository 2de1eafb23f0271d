"""Images: data sets, networks, their training, and zero-shot classification.

The measurements are in :mod:`equitutor.experiments`, the figures in :mod:`equitutor.book`.
"""
