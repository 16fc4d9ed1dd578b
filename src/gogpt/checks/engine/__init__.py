"""Stage engine: a DeepSpeed file by itself, and against the run that it is for."""
