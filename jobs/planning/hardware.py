"""What decides `auto`: the GPUs of the machines that will do the work, and what is fast on them.

Recorded with a sweep, so that what was decided stays decided. A module of its own because it is asked where
the work goes, on another machine if need be. It must not know what is decided by it.
"""

from __future__ import annotations

from jobs.specs.sections import Count, Section


class Hardware(Section):
    """One machine of those that work; the defaults are those of a machine that could not be asked."""

    gpus: Count = 0
    gpu: str | None = None  # name of the first one
    gpu_memory: Count = 0  # bytes of the first one
    gpu_bfloat16: bool = False  # whether it has units for bfloat16
    cpu_bfloat16: bool = False

    def bfloat16(self, gpus: float) -> bool:
        """Whether bfloat16 is faster than float32 where a worker has so many GPUs."""
        return self.gpu_bfloat16 if gpus else self.cpu_bfloat16


#: What PyTorch calls the instructions that multiply matrices of bfloat16, on x86 and on ARM.
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


def hardware_here() -> Hardware:
    """The machine that this process runs on, as far as it may use it."""
    import torch  # takes seconds, and only who asks waits for it

    capabilities = torch.cpu.get_capabilities()
    cpu_bfloat16 = any(bool(capabilities.get(name)) for name in INSTRUCTIONS)
    if not torch.cuda.is_available():
        return Hardware(cpu_bfloat16=cpu_bfloat16)
    first = torch.cuda.get_device_properties(0)
    return Hardware(
        gpus=torch.cuda.device_count(),
        gpu=first.name,
        gpu_memory=first.total_memory,
        gpu_bfloat16=first.major >= 8,
        cpu_bfloat16=cpu_bfloat16,
    )
