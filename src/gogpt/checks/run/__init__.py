"""Checks of a run while it goes on, or of its log: RUN6xx."""
