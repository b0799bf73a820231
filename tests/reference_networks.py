"""Networks as other projects compute them, written from their descriptions, for comparison.

Each gives its tensors the names of its project. They are small in code, not in parameters: the
widths are those of the projects, the depths are arguments.
"""

import torch
from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet


def ig65m(classes: int, depths=(3, 4, 6, 3)) -> nn.Module:
    """The R(2+1)D of ig65m-pytorch: torchvision's parts, wider in three places, epsilon 1e-3."""
    net = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, list(depths), R2Plus1dStem, classes)
    for layer, width in ((net.layer2, 128), (net.layer3, 256), (net.layer4, 512)):
        layer[0].conv2[0] = Conv2Plus1D(width, width, width * 9 // 4)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps, module.momentum = 1e-3, 0.9
    return net


class ConvNorm(nn.Module):
    """Convolution and norm, and a ReLU where asked, under the names that mmaction2 gives them."""

    def __init__(self, cin, cout, kernel, stride=1, groups=1, eps=1e-3, relu=True):
        super().__init__()
        padding = [k // 2 for k in kernel]
        self.conv = nn.Conv3d(cin, cout, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm3d(cout, eps=eps)
        self.relu = relu

    def forward(self, x):
        x = self.bn(self.conv(x))
        return x.relu() if self.relu else x


ONE, THREE = (1, 1, 1), (3, 3, 3)


class CSNBlock(nn.Module):
    def __init__(self, cin, planes, stride, preserved):
        super().__init__()
        self.conv1 = ConvNorm(cin, planes, ONE)
        depthwise = ConvNorm(planes, planes, THREE, stride, groups=planes)
        first = [ConvNorm(planes, planes, ONE, relu=False)] if preserved else []
        self.conv2 = nn.Sequential(*first, depthwise)
        self.conv3 = ConvNorm(planes, 4 * planes, ONE, relu=False)
        self.downsample = None
        if stride != 1 or cin != 4 * planes:
            self.downsample = ConvNorm(cin, 4 * planes, ONE, stride, relu=False)

    def forward(self, x):
        skip = x if self.downsample is None else self.downsample(x)
        return (self.conv3(self.conv2(self.conv1(x))) + skip).relu()


class CSN(nn.Module):
    """mmaction2's CSN; `module.backbone`'s names have the prefix `backbone.`."""

    def __init__(self, depths, classes, *, preserved=False, eps=1e-3):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.conv1 = ConvNorm(3, 64, (3, 7, 7), (1, 2, 2))
        cin = 64
        for i, depth in enumerate(depths):
            planes, blocks = 64 * 2**i, []
            for j in range(depth):
                blocks.append(CSNBlock(cin, planes, 2 if i and not j else 1, preserved))
                cin = 4 * planes
            self.backbone.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(cin, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = eps

    def forward(self, x):
        net = self.backbone
        x = nn.functional.max_pool3d(net.conv1(x), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return self.cls_head.fc_cls(x.mean((2, 3, 4)))


def pytorchvideo_names(csn: CSN) -> dict[str, torch.Tensor]:
    """The tensors of an interaction-reduced CSN under the names that pytorchvideo gives them."""
    parts = {
        "conv1.conv": "branch2.conv_a", "conv1.bn": "branch2.norm_a",
        "conv2.0.conv": "branch2.conv_b", "conv2.0.bn": "branch2.norm_b",
        "conv3.conv": "branch2.conv_c", "conv3.bn": "branch2.norm_c",
        "downsample.conv": "branch1_conv", "downsample.bn": "branch1_norm",
    }  # fmt: skip
    tensors = {}
    for name, value in csn.state_dict().items():
        name = name.removeprefix("backbone.")
        if name.startswith("layer"):
            stage, block, rest = name.split(".", 2)
            part, _, last = rest.rpartition(".")
            name = f"blocks.{stage[-1]}.res_blocks.{block}.{parts[part]}.{last}"
        else:
            name = name.replace("conv1.conv", "blocks.0.conv").replace("conv1.bn", "blocks.0.norm")
            name = name.replace("cls_head.fc_cls", "blocks.5.proj")
        tensors[name] = value
    return tensors


class HaraBlock(nn.Module):
    def __init__(self, cin, planes, stride, bottleneck):
        super().__init__()
        widths = [
            (cin, planes, ONE, 1),
            (planes, planes, THREE, stride),
            (planes, 4 * planes, ONE, 1),
        ]
        if not bottleneck:
            widths = [(cin, planes, THREE, stride), (planes, planes, THREE, 1)]
        self.number = len(widths)
        for n, (a, b, kernel, step) in enumerate(widths, 1):
            padding = kernel[0] // 2
            self.add_module(f"conv{n}", nn.Conv3d(a, b, kernel, step, padding, bias=False))
            self.add_module(f"bn{n}", nn.BatchNorm3d(b))
        cout = widths[-1][1]
        self.downsample = None
        if stride != 1 or cin != cout:
            conv = nn.Conv3d(cin, cout, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm3d(cout))

    def forward(self, x):
        y = x
        for n in range(1, self.number + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            y = y.relu() if n < self.number else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class HaraResNet(nn.Module):
    """The 3D ResNet of 3D-ResNets-PyTorch, with shortcuts of type B."""

    def __init__(self, depths, classes, *, bottleneck):
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        cin = 64
        for i, depth in enumerate(depths):
            planes, blocks = 64 * 2**i, []
            for j in range(depth):
                blocks.append(HaraBlock(cin, planes, 2 if i and not j else 1, bottleneck))
                cin = planes * (4 if bottleneck else 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(cin, classes)

    def forward(self, x):
        x = nn.functional.max_pool3d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3, 4)))


@torch.no_grad()
def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms random weights and statistics, so that none of them can be left out unseen."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d | nn.LayerNorm):
            module.weight.uniform_(0.5, 1.0)
            module.bias.normal_(0, 0.1)
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return net.eval()
