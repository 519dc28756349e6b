import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.fc = nn.Linear(fan_in, fan_out)

    def forward(self, x):
        return torch.relu(self.fc(x))


batch = 512
fan_in = 700
fan_out = 900


def get_inputs():
    return [torch.randn(batch, fan_in)]


def get_init_inputs():
    return [fan_in, fan_out]
