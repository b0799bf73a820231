"""Train on your own videos: `python train_custom.py --videos FOLDER --dataset FOLDER`."""

from run.own_videos import main

if __name__ == "__main__":
    main()
