import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, padding=1)
        self.bias = nn.Parameter(torch.randn(cout, 1, 1))

    def forward(self, x):
        x = self.conv(x)
        x = torch.tanh(x - self.bias)
        return F.max_pool2d(x, 2)


batch = 8
size = 32


def get_inputs():
    return [torch.randn(batch, 3, size, size)]


def get_init_inputs():
    return [3, 8]
