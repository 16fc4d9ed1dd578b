"""Checks of a merged model: EXP7xx."""
