"""The parts of bench/train.py: data sets, operations, runs, tables."""
