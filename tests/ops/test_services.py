# SPDX-License-Identifier: Apache-2.0
"""What the binding's functions on single operators take as a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyneo import _core

ONES = np.ones(2, np.float32)


@pytest.mark.parametrize("x", [np.float32(3), np.array(3, np.float32), np.full(1, 3, np.float32)])
def test_numpy_scalars_are_tensors_of_rank_0(x: Any) -> None:
    assert _core.op_infer("Add", b"", [x, ONES]) == [(1, (2,))]
    np.testing.assert_array_equal(_core.op_eval("Add", b"", [x, ONES])[0], [4, 4])


@pytest.mark.parametrize("x", ["text", object(), (1,), (), (1, "shape"), np.array("text")])
def test_what_is_no_tensor_is_a_type_error(x: Any) -> None:
    for function in (_core.op_infer, _core.op_eval):
        with pytest.raises((TypeError, RuntimeError)):
            function("Add", b"", [x, ONES])
    with pytest.raises((TypeError, RuntimeError, IndexError)):
        _core.kernel_eval("Add", b"", [x, (ONES, 0)], [(1, (2,), 0)], "")
