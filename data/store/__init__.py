"""Frame stores on the disk. Use them through `data.frames`."""
