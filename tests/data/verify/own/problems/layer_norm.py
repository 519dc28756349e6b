import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.ln = nn.LayerNorm(dim)

    def forward(self, x):
        return self.ln(x)


rows = 4096
dim = 1000


def get_inputs():
    return [torch.randn(rows, dim)]


def get_init_inputs():
    return [dim]
