"""The files of the results folder.

results_folder      the path of the folder, the names of the checkpoints in it
folder_preparation  lock the folder and prepare it for the first step
folder_lock         the lock that keeps two runs out of one folder
earlier_run         find, refuse, delete or rename the files of an earlier run
disk_space          whether the checkpoints of a run fit on the disk
recorder            csv rows, curves, TensorBoard, config.json
losses_file         the loss of each training video by epoch, train_losses.npy
log_file            the log as a file
seeds_report        mean and spread over the runs of several seeds
history             the scores of every finished epoch
val_predictions     the predictions of the last validation, one row per video
"""
