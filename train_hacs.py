"""Train on HACS: `python train_hacs.py --dataset FOLDER`; `--help` lists the options."""

from run.command_line import main

if __name__ == "__main__":
    main("hacs")
