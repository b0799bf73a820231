"""Train on HMDB-51: `python train_hmdb51.py --dataset FOLDER`; `--help` lists the options."""

from run.command_line import main

if __name__ == "__main__":
    main("hmdb51")
