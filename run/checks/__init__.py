"""What `run.check` and `run.doctor` look at, and how they report it.

- `finding`: one result of a check, and what to do about it
- `machine`: versions, ffmpeg, memory, disk, cores and GPUs
- `convolutions`: whether torch's 3D convolutions are right and fast on this machine

For a dataset:

- `labelled_parts`: which videos are for training and which for validation
- `store_facts`: what one frame store holds
- `crash_safe_pool`: read many stores in processes that may crash
- `dataset_findings`: what is wrong with labels, videos and splits
- `contact_sheets`: pictures of each class, before and after augmentation
- `report_page`: the report, one html file
- `usable_rows`: the label csv of `--fix`

For the results of a training, `--losses`:

- `label_errors`: likely wrong labels, by the losses of the training videos
- `label_errors_page`: the page about them, with film strips
"""
