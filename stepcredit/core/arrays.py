"""Read-only numpy columns: what every record of the path holds instead of lists."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def frozen(values: Sequence[Any] | NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Read-only one-dimensional copy of `values`.

    An array that is read-only already and has the dtype is returned as it is.

    >>> frozen([1, 2], np.int32).flags.writeable
    False
    """
    array = np.asarray(values, dtype=dtype)
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array
