"""Train on Moments in Time: `python train_mit.py --dataset FOLDER`; `--help` lists the options."""

from run.command_line import main

if __name__ == "__main__":
    main("mit")
