import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, a, b):
        return torch.triu(a @ b)


n = 512


def get_inputs():
    return [torch.triu(torch.randn(n, n)), torch.triu(torch.randn(n, n))]


def get_init_inputs():
    return []
