"""Stage: another tool's configuration."""
