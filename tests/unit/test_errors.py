"""Which exceptions are about memory: a measurement that ran out of it is a result, anything else is an error."""

import pytest
import torch

from frugal.errors import FrugalError, blaming, lacks_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_lack_of_memory_stays_what_it_is(error):
    assert lacks_memory(error)
    with pytest.raises(type(error)), blaming("model", "cannot be read"):
        raise error


def test_other_errors_are_not_about_memory():
    for error in (RuntimeError("CUDA error: device-side assert triggered"), ValueError("CUBLAS_STATUS_NOT_SUPPORTED")):
        assert not lacks_memory(error)
        with pytest.raises(FrugalError, match="model: cannot be read: CU"), blaming("model", "cannot be read"):
            raise error
