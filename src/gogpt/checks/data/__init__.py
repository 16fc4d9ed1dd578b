"""Checks of the rows: DAT3xx."""
