import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x):
        return torch.argmax(x, dim=1)


rows = 2048
cols = 1500


def get_inputs():
    return [torch.randn(rows, cols)]


def get_init_inputs():
    return []
