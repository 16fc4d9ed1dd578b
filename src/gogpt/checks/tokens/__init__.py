"""Checks of what is encoded and trained: TOK4xx."""
