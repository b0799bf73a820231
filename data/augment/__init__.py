"""How clips are changed: presets in imgaug's language, compiled into fast operations."""
