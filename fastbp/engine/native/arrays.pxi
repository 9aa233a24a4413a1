# Verbs on single arrays: no network is needed.


def activate_into(activation, values, slopes):
    """The loop behind an activation's entry, for tests: value and slope of each element."""
    contract.check_floats(values)
    cdef const fb_kernels *k = fb_find_kernels(chosen, values.dtype.itemsize)
    cdef Memory memory = Memory()
    cdef const fb_activation *loops = find_activation(k, activation, memory)
    cdef int64_t n = round_up(len(values), k.lanes)
    z = np.zeros(n, values.dtype)
    z[:len(values)] = values
    a, kept, slope = z.copy(), np.zeros(n, values.dtype), np.ones(n, values.dtype)
    at = kept if activation.slope_of == "pre_activation" else a
    cdef uint64_t float_state = fb_flush_subnormals()   # as in training
    loops.forward(cnp.PyArray_DATA(a), cnp.PyArray_DATA(kept), n)
    loops.slope(cnp.PyArray_DATA(slope), cnp.PyArray_DATA(at), n)
    fb_restore_float_state(float_state)
    values[:], slopes[:] = a[:len(values)], slope[:len(values)]


TRANSFORMS = {"identity": FB_IDENTITY, "logistic": FB_LOGISTIC, "softmax": FB_SOFTMAX,
              "exp": FB_EXP, "log_logistic": FB_LOG_LOGISTIC, "log_softmax": FB_LOG_SOFTMAX,
              "cumulative_softplus": FB_CUMULATIVE_SOFTPLUS}


def transform_into(name, scores):
    """Apply an output transform to raw scores in place."""
    cdef int kind = TRANSFORMS[name]
    contract.check_scores(scores)
    cdef const fb_kernels *k = fb_find_kernels(chosen, scores.dtype.itemsize)
    cdef char *data = <char *>cnp.PyArray_DATA(scores)
    cdef int64_t rows = scores.shape[0], n = scores.shape[1]
    with nogil:
        k.transform(kind, data, rows, n)


def all_finite(X):
    """Whether a C-contiguous float32 or float64 array has neither NaN nor infinity."""
    cdef const fb_kernels *k
    cdef int64_t n
    cdef const char *data
    cdef bint finite
    if not is_floats(X):
        contract.check_floats(X)
    n, data = X.size, <const char *>cnp.PyArray_DATA(X)
    k = fb_find_kernels(chosen, X.dtype.itemsize)
    if n < 10_000:
        return bool(k.all_finite(data, n))
    with nogil:
        finite = k.all_finite(data, n)
    return bool(finite)


def join_columns(columns, out):
    """Write columns side by side into a matrix; return whether all of it is finite."""
    cdef const fb_kernels *k
    cdef int64_t rows, n, j
    cdef const void **places
    cdef void *target
    cdef bint finite
    cdef Memory memory = Memory()
    columns = tuple(columns)
    contract.check_columns(columns, out)
    rows, n, target = out.shape[0], len(columns), cnp.PyArray_DATA(out)
    k = fb_find_kernels(chosen, out.dtype.itemsize)
    places = <const void **>memory.take(n * sizeof(void *))
    for j in range(n):
        places[j] = cnp.PyArray_DATA(columns[j])
    with nogil:
        finite = k.join_columns(places, rows, n, target)
    return bool(finite)


def fingerprint(array, size_t every=1):
    """Number of 64 bits that stands for the bytes of an array."""
    cdef const void *data = cnp.PyArray_DATA(array)
    cdef size_t size = array.nbytes
    cdef uint64_t found
    contract.check_pieces(array, every)
    with nogil:
        found = fb_fingerprint(data, size, every)
    return found
