"""How much each of a customer's items counts when the customer's next item is asked for.

The query of a linear recommender is a customer's own row, so weighting it costs no budget: nothing of it is
released.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from hansa.schema import Histories


def recency_matrix(histories: Histories, power: float) -> sp.csr_array:
    """(1 + age)^-power for each item, age 0 being the customer's newest: float32 [customers, items].

    A power of 0 gives the binary matrix. The age is the place in the customer's own order, so that it means
    the same for customers who buy daily and yearly; items of one moment are in the order of the data.
    """
    matrix = histories.matrix()
    if power:
        ages = histories.offsets[1:][histories.rows_index] - np.arange(len(histories.items))
        matrix.data = (ages**-power).astype(np.float32)
    return matrix
