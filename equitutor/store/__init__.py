"""Files: the cache folder, downloads, checkpoints, and the records of what was measured with their
provenance. Nothing here knows a model or a data set."""
