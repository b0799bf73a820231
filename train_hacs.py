"""Train on HACS: `python train_hacs.py --dataset FOLDER`; `--help` lists the options.

Recipe `original`: learning rate 0.1, batches of 48 clips; all defaults: data/dataset_defaults.py.
"""

from run.command_line import main

if __name__ == "__main__":
    main("hacs")
