"""Which samples of several data sets make an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def quotas(sizes: Sequence[int], temperature: float) -> list[int]:
    """Samples drawn per set and epoch, proportional to size^(1 / temperature).

    Whole numbers that add up to that of all samples, by largest remainder. The smallest set never
    gets less than its size, as the temperature is 1 at least, so no quota is 0.

    >>> quotas([1, 10, 1000], 2.0)
    [28, 89, 894]
    """
    weights = np.array(sizes, float) ** (1 / temperature)
    exact = weights / weights.sum() * sum(sizes)
    whole = np.floor(exact + 1e-6).astype(int)  # 3 samples of 10 must not become 2.9999999
    missing = sum(sizes) - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:missing]] += 1
    return [int(quota) for quota in whole]


def drawn(sizes: Sequence[int], shares: Sequence[int], seed: int, epoch: int) -> np.ndarray:
    """The samples of an epoch in their order, int64; depends on the arguments alone.

    A set is gone through in random order, and again in another, across epochs.

    Args:
        sizes: samples per set; those of a set come after those of the sets before it.
        shares: samples drawn per set and epoch.
        seed: of the order.
        epoch: from 0.
    """
    sets = np.repeat(np.arange(len(sizes)), shares)
    origin = _generator(seed, 0, epoch).permutation(sets)
    order = np.empty(len(origin), np.int64)
    start = 0
    for part, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        order[origin == part] = start + _endless(seed, part, size, epoch * share, share)
        start += size
    return order


def _endless(seed: int, part: int, size: int, first: int, count: int) -> np.ndarray:
    """Entries first .. first + count of endless permutations of 0 .. size - 1, one after
    another.
    """
    begin = first // size
    end = (first + count - 1) // size + 1
    rounds = [_generator(seed, 1 + part, number) for number in range(begin, end)]
    orders = [generator.permutation(size) for generator in rounds]
    start = first - begin * size
    return np.concatenate(orders)[start : start + count]


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
