# Packing: the way between the flat parameter vector (per layer weights, then biases) and the packed
# one that kernels read.
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from fastbp.engine.native.plan cimport Layer, Plan
from fastbp.engine.native.units cimport transpose_panel


cdef inline void copy_weights(Plan *f, Layer *layer, char *w, char *flat,
                              bint to_flat) noexcept nogil:
    """Between one layer's flat weights (n_in, n_out) and their packed form at w."""
    cdef int64_t size = f.itemsize, P = f.lanes, k, n, p, run
    cdef char *here
    for k in range(layer.n_in):
        if layer.narrow:
            for n in range(layer.n_out):
                here = w + (k // P * layer.w_panel + n * P + k % P) * size
                copy_run(here, flat, size, to_flat)
                flat += size
        else:
            for p in range(layer.out_panels):
                run = min(P, layer.n_out - p * P) * size
                copy_run(w + (p * layer.w_panel + k * layer.w_row) * size, flat, run, to_flat)
                flat += run


cdef inline void copy_run(char *packed, char *flat, int64_t n_bytes, bint to_flat) noexcept nogil:
    if to_flat:
        memcpy(flat, packed, n_bytes)
    else:
        memcpy(packed, flat, n_bytes)


cdef inline void copy_layers(Plan *f, char *packed, char *flat, bint to_flat) noexcept nogil:
    """Between the flat vector (per layer: weights, then biases) and the packed one."""
    cdef int l
    cdef Layer *layer
    for l in range(f.n_layers):
        layer = &f.layers[l]
        copy_weights(f, layer, packed + layer.weight_at * f.itemsize, flat, to_flat)
        flat += layer.n_in * layer.n_out * f.itemsize
        copy_run(packed + layer.bias_at * f.itemsize, flat, layer.n_out * f.itemsize, to_flat)
        flat += layer.n_out * f.itemsize


cdef inline void pack(Plan *f, char *packed, char *flat) noexcept nogil:
    copy_layers(f, packed, flat, False)


cdef inline void unpack(Plan *f, char *packed, char *flat) noexcept nogil:
    copy_layers(f, packed, flat, True)


cdef inline void refresh_transposes(Plan *f) noexcept nogil:
    """W^T of every layer that has one, from W."""
    cdef int l
    cdef int64_t p
    for l in range(f.n_layers):
        if f.layers[l].wt != NULL:
            for p in range(f.layers[l].out_panels):
                transpose_panel(f, &f.layers[l], p, 0, f.layers[l].n_in)


cdef inline void point_weights(Plan *f, char *packed) noexcept nogil:
    """Let the layers read these packed weights and biases (NULL: leave them)."""
    cdef int l
    if packed != NULL:
        for l in range(f.n_layers):
            f.layers[l].w = packed + f.layers[l].weight_at * f.itemsize
            f.layers[l].b = packed + f.layers[l].bias_at * f.itemsize
