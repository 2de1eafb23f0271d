"""Lists of words as a group on a vocabulary, EquiLM and EquizeroLM, and how texts speak of people.
SCAN's networks are in :mod:`equitutor.sequences`."""
