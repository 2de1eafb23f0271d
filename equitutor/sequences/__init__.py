"""SCAN, the symmetries of its words, and sequence-to-sequence networks with their decoding and
training. Pretrained language models are in :mod:`equitutor.language`."""
