"""Language: lists of words as a group on a vocabulary, EquiLM and EquizeroLM, and what texts say of
people. What is not of language models (SCAN's networks, downloads, figures) lives elsewhere."""
