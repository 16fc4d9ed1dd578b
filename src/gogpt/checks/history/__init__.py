"""Stage history: what a run left behind, whoever trained it."""
