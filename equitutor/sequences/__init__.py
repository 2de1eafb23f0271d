"""Sequences: SCAN, symmetries of its words, and sequence-to-sequence networks with their decoding and training.

Pretrained language models live in :mod:`equitutor.language`.
"""
