"""Files: the cache folder, downloads, checkpoints, and the records of what was measured with their
provenance. No module here knows a model or a data set."""
