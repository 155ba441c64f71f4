import torch


def softened(x: torch.Tensor, n: int) -> torch.Tensor:
    return torch.softmax(x @ x.t(), -1) * n


def doubled(x: torch.Tensor, n: int) -> torch.Tensor:
    f = torch.jit.fork(softened, x, n)
    g = torch.jit.fork(softened, x, n + 1)
    return torch.jit.wait(f) + torch.jit.wait(g)


def forward(x: torch.Tensor) -> torch.Tensor:
    futures = [torch.jit.fork(doubled, x, n) for n in range(4)]
    results = [torch.jit.wait(f) for f in futures]
    return torch.cat(results)
