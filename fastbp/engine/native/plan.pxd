# What a fit is to the threads that compute it: layers, units, buffers, data. Structs only, and
# where an element of them lies; nothing is computed here.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastbp.engine.native.kernels cimport (FB_MAX_CONSTANTS, FB_MAX_HYPER, FB_MAX_SLOTS,
                                           fb_activation, fb_csr, fb_kernels, fb_loss, fb_optimizer,
                                           fb_team)


cdef enum:
    DOUBLES_PER_LINE = 8
    BLOCK_ROWS = 1024            # larger minibatches are worked off in blocks of this many rows


cdef struct Layer:
    int64_t n_in, n_out, in_panels, out_panels
    bint narrow, sparse          # see kernels.h for the two forms; sparse: first layer over CSR
    int64_t weight_at, weight_size, bias_at   # places in the packed vector, in elements
    int64_t w_row, w_panel       # strides of W in elements
    char *w                      # packed, or the caller's flat weights (small predictions)
    char *b
    char *tail                   # last panel of flat weights, packed, if it is not a whole one
    char *wt                     # W^T in panels; NULL for the first and for a narrow layer
    char *a                      # activations (hidden), raw scores (wide output): panels
    char *slopes                 # of the activation at z, where they are not formulas of f(z)
    char *delta
    const fb_activation *activation
    char *out                    # what the next layer reads under dropout: `a`, or a copy of it
    uint32_t threshold           # draws below it leave a unit out
    double scale                 # of the units kept


cdef struct Unit:                # a tile of a layer's weights, and the biases of its outputs where
    int layer                    # it is the first of them; places are elements of the packed vector
    int64_t k0, n_k, p0, n_panels
    int64_t at, n, stride        # its weights: `count` runs of n, stride apart
    int64_t count
    int64_t bias_at, n_biases
    double middle                # where its middle lies in what threads divide, from 0 to 1


cdef struct Plan:
    const fb_kernels *kernels
    int n_layers, n_units, itemsize
    int64_t lanes, capacity, panel          # rows a buffer holds; capacity * lanes
    int64_t block_rows                      # rows worked on at a time
    Layer *layers
    Unit *units
    double *squares                         # one sum of w^2 per unit, each in a line of its own
    double cost
    bint by_columns, by_chunks              # see above
    int64_t n_packed
    char *w                                 # packed parameters; g and slots in the same layout
    char *g
    char *g1                                # gradient of the second chunk, where there are chunks
    char *scratch                           # one unit's gradients (of two chunks) for each member
    int64_t scratch_size
    char *slots[FB_MAX_SLOTS]
    char *a0                                # gathered X
    char *scores
    char *targets
    char *weights
    double *row_loss
    const fb_loss *loss
    double *loss_hyper
    double loss_factor, gradient_factor
    const fb_optimizer *optimizer
    double hyper[FB_MAX_HYPER]
    int decay                               # which hyper-parameter is 0 for biases; -1: none
    double max_norm                         # of the gradient of a step; 0: any
    double *gradient_squares                # the same of the gradient, where there is a limit
    char *average                           # of w over the steps, or NULL; layout of w
    double ema_decay
    bint dropout, dropping                  # is there any; is it in force (while training)
    bint backward                           # does a backward pass follow, which needs slopes
    uint64_t seed
    # the data of this call
    const char *x
    fb_csr csr
    const char *y
    const char *sample_weight
    int64_t *order
    int64_t n_rows, n_samples, n_features, n_outputs, n_targets, batch_size
    double alpha
    const double *rates
    int64_t n_rates
    bint update
    # interrupts
    bint watch_signals
    int64_t deadline_ns                     # of the monotonic clock; 0: none
    int64_t steps_between_looks
    void *session
    int (*look)(void *) noexcept nogil      # asks Python for signals, for that session
    fb_team *team
    # what member 0 writes during an epoch, a cache line away from what all members read
    char pad0[64]
    int64_t t, step
    double h[FB_MAX_CONSTANTS]              # step constants
    double bias_h[FB_MAX_CONSTANTS]         # those of biases, where they differ
    double average_share                    # of the newest w in this step
    uint64_t epoch_key
    double epoch_loss
    int64_t n_seen                          # samples of the epoch in hand that were trained on
    int64_t n_counted                       # the same of the last epoch that counts as done
    bint interrupted, out_of_time
    int64_t steps_since_look, last_look_ns
    char pad1[64]


cdef inline const char *input_of(Plan *f, int l) noexcept nogil:
    """What layer l reads."""
    if l == 0:
        return f.a0
    return f.layers[l - 1].out if f.dropping else f.layers[l - 1].a


cdef inline const int64_t *order_at(Plan *f, int64_t first) noexcept nogil:
    return NULL if f.order == NULL else f.order + first
