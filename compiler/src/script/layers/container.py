from typing import Dict
from torch.nn import Module


class Sequential(Module):
    _modules: Dict[str, Module]

    def forward(self, input):
        for module in self:
            input = module(input)
        return input


class ModuleList(Module):
    _modules: Dict[str, Module]


class ModuleDict(Module):
    _modules: Dict[str, Module]


class ParameterList(Module):
    pass


class ParameterDict(Module):
    pass
