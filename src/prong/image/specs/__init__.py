"""The built-in image specs, as YAML files."""
