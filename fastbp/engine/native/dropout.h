/* Dropout: which units are left out, from a counter instead of a stream, so that a mask depends on
 * neither threads nor blocks, and is made again in the backward pass instead of being kept.
 *
 * Part of the template (see template.h). A draw is a hash of where it is used: `key` stands for
 * seed, epoch and layer (the plan's `epoch_key`, mixed with the layer in `drop_units`), from it and
 * the row come two words (SplitMix64; Steele, Lea and Flood, OOPSLA 2014), from these and the
 * column 32 bits, by the rounds of a 32-bit mixer found by C. Wellons (lowbias32 of
 * hash-prospector). Both engines and both dtypes draw the same. */

typedef uint32_t NAME(draws) __attribute__((vector_size(4 * VBYTES / REAL_BYTES)));
typedef int32_t NAME(flags) __attribute__((vector_size(4 * VBYTES / REAL_BYTES)));

/* out[i, :] = scale a[i, :] where the draw is at least threshold, else 0; out may be a. Panels, of
 * which the first holds columns from `column` on; `row` is the row of i = 0. */
static void NAME(dropout)(const void *a_, void *out_, int64_t panel, int64_t rows, int64_t n_panels,
                          uint64_t key, int64_t row, int64_t column, uint32_t threshold,
                          double scale)
{
    const REAL *a = a_;
    REAL *out = out_;
    NAME(draws) lane;
    for (int l = 0; l < VL; l++)
        lane[l] = (uint32_t)l;
    for (int64_t i = 0; i < rows; i++) {
        uint64_t words = fb_mix(key + (uint64_t)(row + i));
        uint32_t first = (uint32_t)words, second = (uint32_t)(words >> 32);
        for (int64_t p = 0; p < n_panels; p++)
            UNROLL for (int v = 0; v < NVP; v++) {
                int64_t at = p * panel + i * P + v * VL;
                NAME(draws) x = lane + (first + (uint32_t)(column + p * P + v * VL));
                x ^= x >> 16;
                x *= 0x7feb352du;
                x += second;
                x ^= x >> 15;
                x *= 0x846ca68bu;
                x ^= x >> 16;
                ivec keep = __builtin_convertvector((NAME(flags))(x >= threshold), ivec);
                store(out + at, (vec)((ivec)(load(a + at) * (REAL)scale) & keep));
            }
    }
}
