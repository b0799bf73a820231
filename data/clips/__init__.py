"""From a video to clips: which frames, which crop, one clip, the loader."""
