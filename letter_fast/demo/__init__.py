"""The demonstration: real movies (or a synthetic catalog) become semantic IDs."""
