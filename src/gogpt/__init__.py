"""GoGPT: fine-tune language models without silent failures."""

__version__ = "0.1.0"
