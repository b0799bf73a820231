"""Train on Kinetics: `python train_kinetics.py --dataset FOLDER`; `--help` lists the options.

Recipe `original`: learning rate 0.05, batches of 32 clips; all defaults: data/dataset_defaults.py.
"""

from run.command_line import main

if __name__ == "__main__":
    main("kinetics")
