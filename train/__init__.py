"""Train a network: build the run, take the steps, validate, save, resume.

config                every option of a training run
option_bounds         the bounds of options that are numbers
recipes               the option values of --recipe, a row for each way of training
recipe_choice         which recipe a run takes, and what its options become
plan_report           what a run says before its first step, and all of --plan
network_choice        which network a run trains, from which weights, on which clips
training_warnings     warnings of a run that will not learn
freezing              layers that do not learn
setup                 build all that a run needs from its configuration
training_run          the state of a run: all that the loop changes and a checkpoint saves
loop                  epoch after epoch: train, validate, save
seeds                 one run for each of several seeds
step                  one training step: micro-batches, then one update of the weights
step_outcome          loss and finiteness of a step, read one step later
divergence            stop, or skip a step, where loss or gradients are not finite
video_losses          the loss of each training video of an epoch, kept on the device
epoch_end             finish an epoch: scores, checkpoints, csv rows
loaders               the batches for training, validation and precise batch norm
prefetch              copy the next batch to the device while the current one is computed
schedule              batch, clip shape and learning rate of every step
optimiser             SGD or AdamW, its parameter groups and learning rates
text_table            lines of cells as text with aligned columns
averaged_weights      exponential moving average (EMA) of the weights
batchnorm             batch norm over sub-batches, synchronised or precise
mixing                mixup and CutMix
input_normalisation normalise clips as the network's input profile says
metrics               top-1, top-5 and loss over clips
evaluation            score a network, also after each epoch; average the views of a video
progress              the progress bar and the lines of the log
time_limit            fit the schedule to --max-minutes, shorten it if the run is slower
learning_rate_finder  a range test: the loss at rising learning rates, and the rate to use
step_timing           time two steps of each clip shape
run_clock             seconds of each epoch, estimate of the time left
save_clock            when last.pth was written, and whether another file is newer
speed_monitor         clips per second of reading, forward and backward
checkpoint            save, open, check checkpoints, and resume from them
results               the files of the results folder
report                report.html, the page that shows how a run goes
memory                the largest micro-batch that fits into the memory
devices               which devices and which number format; the only modules that name CUDA are
                      this one, prefetch and stopwatch
stopwatch             time device work
convolution_check     whether 3D convolutions are right and fast in each number format
distributed           all_reduce, broadcast and gather over the ranks
rank_agreement        all ranks have the same options, dataset and weights
rank_failures         join the process group; if one rank fails, the others end with its message
signals               SIGINT and SIGTERM
cpu_cores             how many CPU cores this process may use
input_check           checks of the options that need no torch
train_errors          how a training run can end early
"""
