"""Build a network and load weights: `python examples/load_weights.py NETWORK CHECKPOINT`.

For example `srtg_r3d_18 demo/results/srtg_r3d_18_gates_False/best.pth`. The network is built for
ten classes here. Weights that do not fit, such as those of a classifier for other classes, are
skipped.
"""

import sys

import torch

from network import build_network, load_weights

net = build_network(sys.argv[1], num_classes=10)
report = load_weights(net, sys.argv[2])
print(f"{len(report.loaded)} tensors are loaded")
for name, reason in report.skipped:
    print(f"skipped {name}: {reason}")
for name in report.missing:
    print(f"{name} keeps its random start")

net.eval()
with torch.no_grad():
    logits = net(torch.rand(2, 3, 8, 64, 64))  # clips (B, 3, T, H, W) -> logits (B, classes)
print(f"logits of two clips: {tuple(logits.shape)}")
