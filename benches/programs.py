import torch
from typing import Dict, List


def scalar_loop(n: int) -> int:
    total = 0
    for i in range(n):
        if i % 3 == 0:
            total = total + i
        else:
            total = (total ^ i) & 1048575
    return total


def tensor_loop(len: int) -> torch.Tensor:
    rv = torch.zeros(3, 4)
    for i in range(len):
        if i < 10:
            rv = rv - 1.0
        else:
            rv = rv + 1.0
    return rv


def list_append(n: int) -> int:
    items: List[int] = []
    for i in range(n):
        items.append(i * 7 % 1001)
    return len(items)


def list_index(n: int) -> int:
    items = [0, 0, 0, 0]
    items.clear()
    for i in range(1024):
        items.append(i * 7 % 1001)
    total = 0
    for i in range(n):
        total += items[(i * 5) & 1023]
        items[i & 1023] = total & 255
    return total


def list_sum(n: int) -> int:
    items: List[int] = []
    for i in range(n):
        items.append(i)
    total = 0
    for item in items:
        total += item
    return total


def list_floats(n: int) -> float:
    items: List[float] = []
    for i in range(n):
        items.append(float(i) * 0.5)
    total = 0.0
    for i in range(len(items)):
        items[i] = items[i] + 1.0
    for item in items:
        total += item
    return total


def string_build(n: int) -> int:
    text = ""
    for i in range(n):
        text = text + "ab"
    return len(text)


def string_numbers(n: int) -> int:
    text = ""
    for i in range(n):
        text += str(i)
    return len(text)


def string_join(n: int) -> int:
    parts: List[str] = []
    for i in range(n):
        parts.append(str(i))
    return len(",".join(parts))


def dict_ints(n: int) -> int:
    counts: Dict[int, int] = {}
    for i in range(n):
        key = i * 7919 % 1009
        if key in counts:
            counts[key] += 1
        else:
            counts[key] = 1
    total = 0
    for key in range(1009):
        if key in counts:
            total += counts[key] * key
    return total + len(counts)


def dict_strs(n: int) -> int:
    counts: Dict[str, int] = {}
    for i in range(n):
        key = str(i * 7919 % 1009)
        if key in counts:
            counts[key] += 1
        else:
            counts[key] = 1
    total = 0
    for key in counts.keys():
        total += counts[key] * len(key)
    return total + len(counts)
