"""Makes the pickles beside this file with the real chumpy 0.70. No test: it needs old Pythons, its output is kept.

    python2.7 make.py   # with numpy 1.16.6, scipy 1.2.3, chumpy 0.70: protocols 0, 1, 2, as FLAME 2020 was written
    python3.8 make.py   # with numpy 1.21.6, scipy 1.5.4, chumpy 0.70: protocols 0 to 5, as users save it again

chumpy 0.70 installs with `pip install --no-deps --no-build-isolation chumpy==0.70` and setuptools below 60. The arrays
are counted out, so that test_pickle_standins.py knows them without these packages.
"""

import sys

import chumpy
import numpy as np
import scipy.sparse

try:
    import cPickle as pickle
except ImportError:
    import pickle

SPARSE = np.array([[0, 0.5, 0, 0], [0.25, 0, 0, 0.75], [0, 0, 0, 1.0]])


def content():
    seen = chumpy.array(np.arange(6.0).reshape(2, 3))
    assert seen.r.shape == (2, 3)  # an object that was evaluated has other bookkeeping
    whole = chumpy.array(np.arange(24.0).reshape(2, 3, 4))
    return {
        "leaf": chumpy.array(np.arange(12.0).reshape(4, 3) / 8),
        "evaluated": seen,
        "selection": whole[:, :, 1:3],
        "selection_of_selection": whole[:, :, 1:3][1],
        "csc": scipy.sparse.csc_matrix(SPARSE),
        "csr": scipy.sparse.csr_matrix(SPARSE),
        "coo": scipy.sparse.coo_matrix(SPARSE),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "kintree_table": np.array([[2**32 - 1, 0], [0, 1]], dtype=np.uint32),
        "bs_type": "lrotmin",
    }


for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    name = "python" + "".join(map(str, sys.version_info[:2])) + "_protocol" + str(protocol) + ".pkl"
    with open(name, "wb") as stream:
        pickle.dump(content(), stream, protocol)
