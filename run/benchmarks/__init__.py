"""What `python -m run.benchmark` can measure, one module each."""
