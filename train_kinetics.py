"""Train on Kinetics: `python train_kinetics.py --dataset FOLDER`; `--help` lists the options."""

from run.command_line import main

if __name__ == "__main__":
    main("kinetics")
