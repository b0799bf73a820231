"""The benchmarks of `python -m run.benchmark`, one module for each.

- `network_speed`: forward passes and training steps of the networks
- `export_speed`: the answers of exported networks on the CPU, compared with torch
- `step_overhead`: the time that the training loop adds to the network's own
- `multigrid_gain`: training with and without multigrid
- `multigrid_budget`: what each multigrid policy learns in N minutes
- `recipe_accuracy`: the accuracy on small datasets if no recipe is named
- `label_errors`: how many wrong labels `run.check --losses` finds
- `recurrent_start`: training from each initialisation of the recurrent layers
- `srtg_transfer`: new classes for a pretrained network, with SRTG blocks and without
- `loader_speed`: loading a training clip, compared with other ways
- `augmentation_speed`: the compiled augmentation, compared with imgaug
- `storage_speed`: reading and converting videos, compared with other ways
- `label_csv_speed`: loading a label csv of a million rows
- `startup_time`: `--help` of the commands, compared with importing torch
- `gpu_page`: the tests and benchmarks that need a GPU, written to docs/gpu.md

Shared by the benchmarks:

- `users_ways`: torchcodec and pytorchvideo as their users write it, for `loader_speed`
- `million_videos`: a simulated dataset of a million videos in shards, for `storage_speed`
- `options`: the options of each benchmark
- `example_videos`: the videos that `loader_speed` and `storage_speed` read
"""
