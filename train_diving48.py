"""Train on Diving48: `python train_diving48.py --dataset FOLDER`; `--help` lists the options."""

from run.command_line import main

if __name__ == "__main__":
    main("diving48")
