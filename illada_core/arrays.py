"""Names for the arrays that travel through the house."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.uint32]  # token ids
Counts: TypeAlias = NDArray[np.int64]  # lengths, ends, numbers of things
