# cython: language_level=3, wraparound=True, cdivision=True, freethreading_compatible=True
"""The compiled engine, as `fastbp.engine.contract` describes it, over the C kernels.

What runs without Python are modules of inline functions (`.pxd`), each with the names it takes from
others; what the GIL is held for is included below (`.pxi`), so that one extension holds it all.
README.md says where to look for what.
"""

import os
import threading

import numpy as np

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from numpy.random cimport bitgen_t

from fastbp.engine import contract, find_kernels, members, network
from fastbp.engine.precision import PREDICTION_ROWS, PRECISIONS
from fastbp.engine.native.division cimport Share, WORK_PER_THREAD_US, chunk_of, step_us
from fastbp.engine.native.epochs cimport Stopping, Stream, all_parameters_finite, run_epochs
from fastbp.engine.native.kernels cimport *
from fastbp.engine.native.members cimport write_first_layer
from fastbp.engine.native.minibatch cimport sum_losses, sum_of_weights
from fastbp.engine.native.packing cimport (copy_weights, pack, point_weights, refresh_copies,
                                           unpack)
from fastbp.engine.native.plan cimport (BLOCK_ROWS, DOUBLES_PER_LINE, Layer, Plan, Unit, element,
                                        size_of)
from fastbp.engine.native.rounding cimport (begin_rounded, end_rounded, pair_panel, round_weights,
                                            row_panel, weight_panel, whole_steps)
from fastbp.engine.native.rows cimport forward_rows, gather_rows

cnp.import_array()
assert (FB_MAX_HYPER, FB_MAX_SLOTS) == (contract.MAX_HYPER, contract.MAX_SLOTS)

NAME = "cython"

include "instruction_sets.pxi"
include "memory.pxi"
include "table_loops.pxi"
include "matmul.pxi"
include "layout.pxi"
include "arguments.pxi"
include "prediction.pxi"
include "arrays.pxi"
include "session.pxi"
include "measure.pxi"
