"""The commands: each module here is one, `python -m run.<name>`."""
