"""What `run.explain` computes and draws.

- `explained_layer`: which layer is explained
- `heat_maps`: Grad-CAM and Saliency Tubes: where a network looks
- `random_weights`: the control: the same heat map from networks with random weights
- `occlusion`: how much the answer depends on each frame
- `srtg_factors`: what the SRTG blocks multiply each frame by
- `overlay`, `pictures`, `film`: draw them over the clip's frames
- `explanation`: one clip's explanation: compute it, write its files
"""
