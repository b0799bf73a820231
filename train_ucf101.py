"""Train on UCF-101: `python train_ucf101.py --dataset FOLDER`; `--help` lists the options."""

from run.command_line import main

if __name__ == "__main__":
    main("ucf101")
