"""Stage: proofs on the model and the data, before the first step."""
