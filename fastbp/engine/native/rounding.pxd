# Layers whose products are of operands rounded to bfloat16 (bf16.h says what these are): operands
# and products of a layer, between the float32 buffers that all layers have. Everything else of a
# step reads those and knows nothing of it.
#
# Each operand is written once: weights by the unit's owner after its update, a row's input and
# delta by the row's worker, in the first phase, for both phases.
from libc.stdint cimport int64_t, uint16_t

from fastbp.engine.native.division cimport Share
from fastbp.engine.native.kernels cimport FB_BF16_ROWS, fb_bf16
from fastbp.engine.native.plan cimport Layer, Plan, Unit, element, input_of, panel_row


cdef inline void begin_rounded(Plan *f) noexcept nogil:
    """Before a thread's work of a call, and after what may be other code's in between."""
    if f.net.bf16 != NULL:
        f.net.bf16.begin()


cdef inline void end_rounded(Plan *f) noexcept nogil:
    if f.net.bf16 != NULL:
        f.net.bf16.end()


cdef inline int64_t whole_steps(int64_t n) noexcept nogil:
    """n rows or columns and the padding up to whole steps of a product."""
    return (n + FB_BF16_ROWS - 1) // FB_BF16_ROWS * FB_BF16_ROWS


cdef inline int64_t whole_groups(Plan *f, int64_t rows) noexcept nogil:
    """Rows of a share and the padding up to where another may begin."""
    return (rows + f.net.group - 1) // f.net.group * f.net.group


cdef inline int64_t row_panel(Plan *f) noexcept nogil:
    """How far panels of operands in `rows` order are apart."""
    return f.net.terms * f.net.capacity * 32


cdef inline int64_t pair_panel(Plan *f) noexcept nogil:
    """The same of `left` and `delta_pairs`."""
    return f.net.terms * f.net.capacity * 16


cdef inline int64_t weight_panel(Plan *f, int64_t n) noexcept nogil:
    """The same of weights, summed over n of their inputs (`w_pairs`) or outputs (`w_across`)."""
    return f.net.terms * whole_steps(n) * 16


cdef inline void round_weights(Plan *f, Layer *layer, int64_t k0, int64_t n_k, int64_t p0,
                               int64_t n_panels) noexcept nogil:
    """The operands of rows k0.. and panels p0.. of W; k0 is a multiple of 16."""
    cdef const fb_bf16 *k = f.net.bf16
    cdef const float *w = <const float *>layer.w + p0 * layer.w_panel + k0 * layer.w_row
    cdef int64_t panel = weight_panel(f, layer.n_in), across = weight_panel(f, layer.n_out)
    k.round_pairs(w, layer.w_panel, n_k, n_k + (n_k & 1), n_panels,
                  layer.w_pairs + p0 * panel + k0 * 16, panel, f.net.terms)
    if layer.w_across != NULL:
        k.round_across(w, layer.w_panel, n_k, n_panels,
                       layer.w_across + k0 // 16 * across + p0 * 256, across, f.net.terms)


cdef inline void round_input(Plan *f, int l, int64_t r0, int64_t rows) noexcept nogil:
    """The operands of what layer l reads, rows r0.. of the block."""
    cdef Layer *layer = &f.net.layers[l]
    cdef const float *a = <const float *>panel_row(f, input_of(f, l), 0, r0)
    f.net.bf16.round_rows(a, f.net.panel, rows, layer.in_panels, layer.rows + r0 * 32,
                          row_panel(f), f.net.terms)
    if f.call.backward:
        f.net.bf16.round_left(a, f.net.panel, rows, whole_groups(f, rows), layer.in_panels,
                              layer.left + r0 * 16, pair_panel(f), f.net.terms)


cdef inline void round_delta(Plan *f, int l, int64_t r0, int64_t rows) noexcept nogil:
    """The operands of layer l's delta, rows r0.. of the block."""
    cdef Layer *layer = &f.net.layers[l]
    cdef const float *delta = <const float *>panel_row(f, layer.delta, 0, r0)
    f.net.bf16.round_pairs(delta, f.net.panel, rows, whole_groups(f, rows), layer.out_panels,
                           layer.delta_pairs + r0 * 16, pair_panel(f), f.net.terms)
    if l > 0:
        f.net.bf16.round_rows(delta, f.net.panel, rows, layer.out_panels, f.buf.rows + r0 * 32,
                              row_panel(f), f.net.terms)


cdef inline void multiply_rounded(Plan *f, Layer *layer, int64_t r0, int64_t rows, int64_t p0,
                                  int64_t p1, int epilogue) noexcept nogil:
    """a = W^T input + b of panels p0 to p1, rows r0.., whose operands are there."""
    cdef int64_t panel = weight_panel(f, layer.n_in)
    f.net.bf16.product(layer.rows + r0 * 32, row_panel(f), layer.w_pairs + p0 * panel, panel,
                       <const float *>layer.b + p0 * 16, <float *>panel_row(f, layer.a, p0, r0),
                       f.net.panel, NULL, epilogue, rows, layer.n_in, p1 - p0, f.net.terms)


cdef inline void multiply_back_rounded(Plan *f, Layer *layer, int64_t r0, int64_t rows, char *below,
                                       const char *gate, int epilogue) noexcept nogil:
    """below = delta W^T of rows r0.., after `round_delta`."""
    f.net.bf16.product(f.buf.rows + r0 * 32, row_panel(f), layer.w_across,
                       weight_panel(f, layer.n_out), NULL, <float *>below, f.net.panel,
                       <const float *>gate, epilogue, rows, layer.n_out, layer.in_panels,
                       f.net.terms)


cdef inline void rounded_gradient(Plan *f, Unit *u, Share share, char *g, int64_t g_panel,
                                  bint accumulate) noexcept nogil:
    """grad_W = A^T delta over a share's rows, for one unit."""
    cdef Layer *layer = u.layer
    cdef int64_t panel = pair_panel(f)
    f.net.bf16.weight_gradient(layer.left + u.k0 // 16 * panel + share.r0 * 16, panel,
                               layer.delta_pairs + u.p0 * panel + share.r0 * 16, panel,
                               <float *>g, g_panel, share.rows, u.n_k, u.n_panels, accumulate,
                               f.net.terms)
