"""Put SRTG blocks into a network of another library: `python examples/insert_srtg.py`."""

import torch
from torchvision.models.video import r3d_18

from network import insert_srtg

net = r3d_18()  # r3d_18(weights="DEFAULT") downloads weights trained on Kinetics-400
before = {name for name, _ in net.named_modules()}
insert_srtg(net)  # changes the network in place; its own weights keep their names

for name, module in net.named_modules():
    if name not in before and name.count(".") < 2:
        print(f"new: {name} ({type(module).__name__})")

clips = torch.rand(1, 3, 4, 32, 32)  # (B, 3, T, H, W)
print(f"logits: {tuple(net(clips).shape)}")  # (B, 400)
