/* The kernels of one dtype on one instruction set: included once per pair by isa_*.c.
 *
 * Expects REAL, REAL_BYTES, BITS, UBITS, VBYTES, NAME(x), ISA_NAME and, where the set has a vector
 * square root, SQRT_F32 / SQRT_F64. Everything is static except the table at the end. */

#include "vector.h"
#include "product.h"
#include "gradient.h"
#include "rearrange.h"
#include "sparse.h"
#include "members.h"
#include "activations.h"
#include "losses.h"
#include "optimizers.h"
#include "dropout.h"

/* x * 0 is 0 for finite x and NaN for the others */
static int NAME(all_finite)(const void *x_, int64_t n)
{
    const REAL *x = x_;
    vec sum[4] = {{0}, {0}, {0}, {0}};
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL)
        UNROLL for (int u = 0; u < 4; u++) sum[u] += load(x + i + u * VL) * (REAL)0;
    vec total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    REAL rest = 0;
    for (; i < n; i++)
        rest += x[i] * (REAL)0;
    return NAME(sum)(total) + rest == 0;
}

static void NAME(add)(void *g_, const void *h_, int64_t n)
{
    REAL *g = g_;
    const REAL *h = h_;
    for (int64_t i = 0; i < n; i += VL)
        store(g + i, load(g + i) + load(h + i));
}

/* Multiply-adds with nothing in the way: 12 independent chains hide the latency. They start from
 * values the compiler cannot know, or it finds the fixed point of one and drops it. */
static double NAME(peak)(int64_t n)
{
    vec sum[12], x = splat((REAL)0.999), y = splat((REAL)1e-3);
    UNROLL for (int i = 0; i < 12; i++) sum[i] = splat((REAL)(i + n));
    for (int64_t k = 0; k < n; k++)
        UNROLL for (int i = 0; i < 12; i++) sum[i] = sum[i] * x + y;
    vec total = {0};
    UNROLL for (int i = 0; i < 12; i++) total += sum[i];
    return NAME(sum)(total) == 0 ? 0 : 24.0 * VL * (double)n;
}

const fb_kernels NAME(fb_kernels) = {
    .isa = ISA_NAME,
    .itemsize = (int)sizeof(REAL),
    .lanes = P,
    .product = NAME(product),
    .narrow_product = NAME(narrow_product),
    .weight_gradient = NAME(weight_gradient),
    .narrow_gradient = NAME(narrow_gradient),
    .add = NAME(add),
    .gather = NAME(gather),
    .gather_columns = NAME(gather_columns),
    .panels_to_columns = NAME(panels_to_columns),
    .columns_to_panels = NAME(columns_to_panels),
    .transpose_block = NAME(transpose_block),
    .zero_padding = NAME(zero_padding),
    .columns_to_rows = NAME(columns_to_rows),
    .join_columns = NAME(join_columns),
    .sparse_product = NAME(sparse_product),
    .sparse_gradient = NAME(sparse_gradient),
    .sparse_clear = NAME(sparse_clear),
    .scale_rows = NAME(scale_rows),
    .member_gradient = NAME(member_gradient),
    .run_rows = NAME(run_rows),
    .run_gradient = NAME(run_gradient),
    .dropout = NAME(dropout),
    .gradient_squares = NAME(gradient_squares),
    .shrink = NAME(shrink),
    .average = NAME(average),
    .transform = NAME(transform),
    .all_finite = NAME(all_finite),
    .peak = NAME(peak),
    .activations = NAME(activations),
    .losses = NAME(losses),
    .optimizers = NAME(optimizers),
};
