"""What a worker knows about the others: its rank, how many there are, and how to add up over all."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Workers:
    """The group this process trains in; one alone needs no process group."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @staticmethod
    def current(device: torch.device = CPU) -> Workers:
        """The group of this process: torch's where one is initialised (Ray Train, torchrun), else alone."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            return Workers(device=device)
        return Workers(dist.get_rank(), dist.get_world_size(), device)

    @property
    def first(self) -> bool:
        """Whether this is the worker that writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over workers."""
        if self.size == 1:
            return values
        total = values.to(self.device).clone()
        dist.all_reduce(total)
        return total.cpu()

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def shard(self, module: nn.Module, layers: Sequence[nn.Module], *, bf16: bool) -> None:
        """Spread weights, gradients and optimizer state over the workers (FSDP2), each layer a group that is gathered
        when it computes. Sharded weights stay fp32; they are gathered, and multiply, in bf16 where asked.

        The first worker's weights go to all; the others' modules are empty before. No device and no other worker's
        memory ever holds the whole.
        """
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        weights = {n: t.detach() for n, t in module.state_dict().items()} if self.first else {}
        # Not among the weights, and computed when a model is made (rotary frequencies): empty on the other workers.
        buffers = dict(module.named_buffers())
        precision = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32
        )
        for layer in layers:
            fully_shard(layer, mp_policy=precision)
        # Not resharded after the forward pass: the backward pass of the LM head begins with the same weights.
        fully_shard(module, mp_policy=precision, reshard_after_forward=False)
        if self.first:
            module.to(self.device)
        else:
            module.to_empty(device=self.device)
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(module, weights, options=options)
        for name, buffer in module.named_buffers():
            if self.first:
                buffer.copy_(buffers[name])
            dist.broadcast(buffer, src=0)

    def replicate(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over workers that each hold all of it (DDP)."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)

    def accumulate(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Keep gradients local until the last microbatch of a step."""
        from torch.distributed.fsdp import FSDPModule

        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(last)
        elif isinstance(module, nn.parallel.DistributedDataParallel) and not last:
            return module.no_sync()
        return nullcontext()

    def memory_gb(self) -> float:
        """Most memory used so far: allocated on the GPU, else resident in this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

    def same(self, value: Any) -> Any:
        """The first worker's value, on every worker."""
        return self.gather(value)[0]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32: on the CPUs tried, AVX512-BF16 matrix products are twice as fast."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
