"""First uses of libraries that must not happen in several threads at once."""


def warm_up() -> None:
    """Let MKL choose the kernels of its vector functions on one thread. Call it before any result is computed.

    The first call of a vector function (cosine, sine, exponential, logarithm, ...) asks `mkl_vml_serv_cpu_detect` for
    the CPU's type, which it keeps in a variable without a lock: first as another table numbers it, then as its own
    does (MKL as in PyTorch 2.13, read in its machine code). A second thread that reads the variable in between takes
    a kernel of another accuracy (MKL's EP) for its share of the array: a cosine is then wrong by up to 1.5e-4 instead
    of 1e-7. The numbers differ for Intel's CPUs since AVX2; on an AMD EPYC both are 0. One of a hundred evaluations
    on a CPU with AMX gave other probabilities (by 1e-7 to 4e-5) in its first batch, where the cosines of the rotary
    positions are the process's first. With the number of an Intel CPU with AVX-512 set by hand, 11 of 4,282 first
    cosines by two threads were wrong, and none of 22,025 by one.

    One number is one thread's work, and settles the variable for good.
    """
    import torch

    torch.zeros(1).cos_()
