"""The commands: `python -m run.<name>`; `--help` lists a command's options.

Prepare data:

- `convert`: video files to frame stores
- `download`: download the videos that a label csv lists
- `check`: check a dataset; `run.checks` has one module for each kind of check
- `labels`: label csvs from official lists, folders or other frameworks' lists

Look things up:

- `doctor`: check this machine
- `plan`: the schedule of a run, before it starts
- `tune`: find a learning rate by a range test
- `networks`: the networks with their parameters and multiply-accumulates
- `options_page`: docs/options.md, the page of all options
- `benchmark`: measure speed; `run.benchmarks` has a module for each benchmark

Look at a training:

- `report`: write its report.html again, or serve it; `report_server` answers the browser

Use a trained network:

- `evaluate`: score it on a validation split; `run.evaluation` computes, writes and draws
- `compare`: is one result better than another? `run.comparing` computes, draws and writes
- `predict`: name the actions in videos, cameras and streams; `prediction` and `live_prediction`
  print and write the answers, `recogniser` computes them, also for scripts and notebooks,
  `run.predicting` has timelines of long videos and the reader of streams
- `explain`: show where a network looks in a clip; `run.explaining` computes and draws
- `features`: write a layer's features of each video; `layer_features` and `feature_extraction`
  compute, `neighbours` finds and draws the videos nearest to one, `feature_files` writes

Try everything:

- `demo`: render videos, convert them, train and evaluate

Shared by the commands:

- `command_line`: the options of the training scripts
- `shared_options`: options that several commands have
- `exit_codes`: run a command, print its errors in one line, return its exit code
- `packing`: pack frame stores into shards, for `convert`
- `worker_pool`: work on many videos at a time
- `tables`: tables as csv files and in Markdown
- `own_videos`: from a folder of videos to a result, for `train_custom.py`
- `trained_network`: build a network from its checkpoint
- `dataset_clips`: the clips of a dataset on which a trained network runs
- `given_videos`: the videos that a user names, as frame stores
- `single_clip`: one clip of one video, with the frames that it shows
- `layer_outputs`: watch the outputs of a network's layers, find layers by name
- `mp4_writer`: write frames as an mp4
- `film_strip`: draw frames side by side
"""
