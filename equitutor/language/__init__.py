"""Language: lists of words as a group on a vocabulary, EquiLM and EquizeroLM, and how texts speak of people.

What is not about language models (SCAN's networks, downloads, figures) lives elsewhere.
"""
