"""Data: from files as they are found to examples in memory, every row counted."""
