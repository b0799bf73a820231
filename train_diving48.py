"""Train on Diving48: `python train_diving48.py --dataset FOLDER`; `--help` lists the options.

Recipe `original`: learning rate 0.1, batches of 32 clips; all defaults: data/dataset_defaults.py.
"""

from run.command_line import main

if __name__ == "__main__":
    main("diving48")
