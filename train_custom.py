"""Train on a dataset of your own: `python train_custom.py --dataset FOLDER --labels CSV`; `--help` lists the options."""

from run.cli import main

if __name__ == "__main__":
    main("custom")
