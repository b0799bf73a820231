"""Train on your own dataset: `python train_custom.py --dataset FOLDER --labels CSV`."""

from run.command_line import main

if __name__ == "__main__":
    main("custom")
