"""Turn videos into clips: which frames, the clip itself, the data loader.

frame_sampling  which frames of a video make a clip
clip_dataset    one clip, determined by the seed and the request
film_strip      frames of a clip as small JPEGs
loader          batches for the steps of a run, and for validation
loader_workers  the worker processes: start, wait for batches, notice failures
"""
