"""Files: the cache folder, downloads, checkpoints, and the records of what was measured.

Nothing here knows a model or a data set.
"""
