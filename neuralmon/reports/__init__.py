"""What a person reads of an experiment or of a run."""
