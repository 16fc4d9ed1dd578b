"""Checks of the base model against the recipe: MOD5xx."""
