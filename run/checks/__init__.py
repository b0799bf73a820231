"""What `run.check` and `run.doctor` look at, and how they report it.

- `finding`: one result of a check, and what to do about it
- `machine`: versions, ffmpeg, memory, disk, cores and GPUs
- `convolutions`: whether torch's 3D convolutions are right and fast on this machine
"""
