"""Checks of the machine: ENV1xx."""
