# The caller's arrays: what they are, asked in C where a question of `contract` in Python would cost
# as much as the work, and where the plan points to them during a call.


cdef char *bytes_of(cnp.ndarray array) noexcept:
    return <char *>cnp.PyArray_DATA(array)


cdef bint is_plain(array, int n_dims, int type_number) noexcept:
    """Whether an object is a C-contiguous array of this number of dimensions and of this dtype."""
    return (cnp.PyArray_Check(array) and cnp.PyArray_NDIM(array) == n_dims
            and cnp.PyArray_TYPE(array) == type_number and cnp.PyArray_ISNOTSWAPPED(array)
            and cnp.PyArray_IS_C_CONTIGUOUS(array))


cdef bint is_matrix(array, int type_number, int64_t n_columns) noexcept:
    """`contract.check_matrix` as a question."""
    return is_plain(array, 2, type_number) and cnp.PyArray_DIM(array, 1) == n_columns


cdef bint is_floats(array) noexcept:
    """`contract.check_floats` as a question."""
    return (cnp.PyArray_Check(array) and cnp.PyArray_TYPE(array) in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE)
            and cnp.PyArray_ISNOTSWAPPED(array) and cnp.PyArray_IS_C_CONTIGUOUS(array))


def are_layers(coefs, intercepts, n_features=-1, n_outputs=-1):
    """Whether these are weights and biases as `predict_into` takes them."""
    cdef Py_ssize_t n_layers = len(coefs), l
    cdef cnp.npy_intp width = n_features, last = n_outputs
    cdef int number = cnp.NPY_FLOAT
    if n_layers == 0 or len(intercepts) != n_layers:
        return False
    if is_plain(coefs[0], 2, cnp.NPY_DOUBLE):
        number = cnp.NPY_DOUBLE
    for l in range(n_layers):
        W, b = coefs[l], intercepts[l]
        if not (is_plain(W, 2, number) and is_plain(b, 1, number) and cnp.PyArray_SIZE(W) > 0
                and cnp.PyArray_DIM(b, 0) == cnp.PyArray_DIM(W, 1)
                and (width < 0 or cnp.PyArray_DIM(W, 0) == width)):
            return False
        width = cnp.PyArray_DIM(W, 1)
    return last < 0 or last == width


cdef bint are_members(coefs, scales, weights, biases):
    """`contract.check_member_arrays` as a question, of layers that fit each other."""
    cdef int number = cnp.PyArray_TYPE(coefs[0])
    return (is_plain(scales, 2, number) and is_plain(weights, 3, number)
            and is_plain(biases, 2, number) and len(scales) == len(weights) == len(biases) > 0
            and cnp.PyArray_DIM(scales, 1) == cnp.PyArray_DIM(coefs[0], 0)
            and cnp.PyArray_DIM(weights, 1) == cnp.PyArray_DIM(coefs[-1], 1)
            and cnp.PyArray_DIM(weights, 2) == cnp.PyArray_DIM(biases, 1) > 0)


cdef bint is_csr(X, int number, int64_t n_columns):
    """`contract.check_csr` as a question; with indices of 32 bits."""
    if isinstance(X, np.ndarray) or X.format != "csr":
        return False
    data, indices, indptr, shape = X.data, X.indices, X.indptr, X.shape
    return (is_plain(data, 1, number) and is_plain(indices, 1, cnp.NPY_INT32)
            and is_plain(indptr, 1, cnp.NPY_INT32) and shape[1] == n_columns
            and cnp.PyArray_DIM(indptr, 0) == shape[0] + 1
            and (<int32_t *>cnp.PyArray_DATA(indptr))[shape[0]]
            <= min(cnp.PyArray_DIM(indices, 0), cnp.PyArray_DIM(data, 0)))


cdef fb_csr csr_of(X):
    """The arrays of a CSR matrix."""
    return fb_csr(<void *>cnp.PyArray_DATA(X.data), <void *>cnp.PyArray_DATA(X.indices),
                  <void *>cnp.PyArray_DATA(X.indptr), X.indptr.dtype.itemsize)


cdef void fill_ones(Plan *f) noexcept nogil:
    cdef int64_t i
    for i in range(f.net.capacity):
        if f.net.itemsize == 4:
            (<float *>f.buf.weights)[i] = 1
        else:
            (<double *>f.buf.weights)[i] = 1


cdef bind_rows(Session s, X):
    """Point the plan at the rows of X, as they stand."""
    cdef Plan *f = &s.plan
    contract.check_samples(X, s.dtype, f.net.n_features, f.net.layers[0].sparse)
    if f.net.layers[0].sparse:
        f.call.csr = csr_of(X)
    else:
        f.call.x = bytes_of(X)
    f.call.order = NULL
    f.call.n_rows = f.call.n_samples = X.shape[0]


cdef bind(Session s, X, targets, sample_weight, order):
    """Point the plan at the caller's arrays, which outlive the call."""
    cdef Plan *f = &s.plan
    bind_rows(s, X)
    bind_targets(s, f.call.n_rows, targets, sample_weight)
    if order is not None:
        contract.check_order(order, f.call.n_rows)
        f.call.order = <int64_t *>bytes_of(order)
        f.call.n_samples = len(order)


cdef bind_targets(Session s, int64_t n, targets, sample_weight):
    """Point the plan at targets and weights of n samples."""
    cdef Plan *f = &s.plan
    contract.check_targets(targets, sample_weight, n, s.dtype, f.net.n_targets)
    f.call.n_samples = n
    f.call.y = bytes_of(targets)
    f.call.sample_weight = NULL if sample_weight is None else bytes_of(sample_weight)
    if sample_weight is None and f.buf.weights != NULL:
        fill_ones(f)


cdef void unbind(Plan *f) noexcept:
    f.call.x = f.call.y = f.call.sample_weight = NULL
    f.call.order = NULL
