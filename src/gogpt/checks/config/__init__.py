"""Checks of the recipe across its fields: CFG2xx."""
