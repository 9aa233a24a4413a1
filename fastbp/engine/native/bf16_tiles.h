/* Both products of bf16.h over tiles: sums of 16 x 16 float32, operands of 16 x 32 bfloat16.
 *
 * Included once per kind of tile, after TILES (what a function needs to have them), TILE_ZERO,
 * TILE_START (load sums), TILE_STORE, TILE_LOAD (an operand) and TILE_MULTIPLY are defined: in
 * bf16_emulation.c plain C, in bf16_amx.c the instructions. So every loop here runs anywhere.
 *
 * A block is 32 rows x 2 panels of the result (or half of either at the end): tiles 0 to 3 hold its
 * sums, 4 and 5 rows of the left operand, 6 and 7 panels of the right one. Where tiles lie:
 *   a, a_step (next 32 k), a_tile (next 16 rows);  b, 512 (next 32 k), b_panel (next 16 columns) */

typedef struct {
    const uint16_t *a, *b;
    int64_t a_step, a_tile, a_low, b_panel, b_low; /* a_low, b_low: where the second term is */
    int64_t n_steps;
} operands;

/* sums += left right, over all k: term 1 by term 1, and in "high" 1 by 2 and 2 by 1, step by step. */
TILE_INLINE void multiply_steps(TILES, const int terms, const int mr, const int np,
                                const operands *o)
{
    const uint16_t *a = o->a, *b = o->b;
    for (int64_t step = 0; step < o->n_steps; step++, a += o->a_step, b += 512)
        for (int product = 0; product < 2 * terms - 1; product++) {
            const uint16_t *left = product == 2 ? a + o->a_low : a;
            const uint16_t *right = product == 1 ? b + o->b_low : b;
            TILE_LOAD(4, left);
            TILE_LOAD(6, right);
            TILE_MULTIPLY(0, 4, 6);
            if (np == 2) {
                TILE_LOAD(7, right + o->b_panel);
                TILE_MULTIPLY(1, 4, 7);
            }
            if (mr == 2) {
                TILE_LOAD(5, left + o->a_tile);
                TILE_MULTIPLY(2, 5, 6);
                if (np == 2)
                    TILE_MULTIPLY(3, 5, 7);
            }
        }
}

/* What becomes of a sum before the next product reads it (kernels.h). */
static void finish_tile(float *c, const float *gate, int epilogue, int64_t rows)
{
    if (epilogue == FB_RELU)
        for (int64_t i = 0; i < 16 * rows; i++)
            c[i] = c[i] < 0 ? 0 : c[i];
    if (epilogue == FB_GATE)
        for (int64_t i = 0; i < 16 * rows; i++)
            c[i] = gate[i] == 0 ? 0 : c[i];
}

/* Where sums start and go: a block of C, of which only `rows` rows are there. */
typedef struct {
    float *c;
    const float *bias, *gate;
    int64_t c_panel;
    int epilogue, accumulate;
} target;

/* Tile t, rows i.. and panel j of the block. A tile that is not whole goes through `rest`. */
#define START(t, i, j)                                                                             \
    {                                                                                              \
        if (to->accumulate) {                                                                      \
            const float *here = to->c + (j) * to->c_panel + (i) * 16;                              \
            if (rows - (i) < 16)                                                                   \
                here = memcpy(rest, here, (size_t)(rows - (i)) * 64);                              \
            TILE_START(t, here, 64);                                                               \
        } else if (to->bias) {                                                                     \
            TILE_START(t, to->bias + (j) * 16, 0);                                                 \
        } else {                                                                                   \
            TILE_ZERO(t);                                                                          \
        }                                                                                          \
    }
#define FINISH(t, i, j)                                                                            \
    {                                                                                              \
        const int64_t at = (j) * to->c_panel + (i) * 16;                                           \
        const int64_t n = rows - (i) < 16 ? rows - (i) : 16;                                       \
        TILE_STORE(t, n < 16 ? rest : to->c + at);                                                 \
        if (n < 16)                                                                                \
            memcpy(to->c + at, rest, (size_t)n * 64);                                              \
        finish_tile(to->c + at, to->gate ? to->gate + at : NULL, to->epilogue, n);                 \
    }

TILE_INLINE void block_of(const int terms, const int mr, const int np, const operands *o,
                          const target *to, int64_t rows)
{
    float rest[256] __attribute__((aligned(64))) = {0};
    TILES_HERE;
    START(0, 0, 0)
    if (np == 2)
        START(1, 0, 1)
    if (mr == 2) {
        START(2, 16, 0)
        if (np == 2)
            START(3, 16, 1)
    }
    multiply_steps(TILES_GIVEN, terms, mr, np, o);
    FINISH(0, 0, 0)
    if (np == 2)
        FINISH(1, 0, 1)
    if (mr == 2) {
        FINISH(2, 16, 0)
        if (np == 2)
            FINISH(3, 16, 1)
    }
}

#define BLOCK_CASE(terms, mr, np)                                                                  \
    case 4 * terms + 2 * mr + np:                                                                  \
        block_of(terms, mr, np, o, to, rows);                                                      \
        break;

static void any_block(int terms, int np, const operands *o, const target *to, int64_t rows)
{
    switch (4 * terms + 2 * (1 + (rows > 16)) + np) {
        BLOCK_CASE(1, 1, 1) BLOCK_CASE(1, 1, 2) BLOCK_CASE(1, 2, 1) BLOCK_CASE(1, 2, 2)
        BLOCK_CASE(2, 1, 1) BLOCK_CASE(2, 1, 2) BLOCK_CASE(2, 2, 1) BLOCK_CASE(2, 2, 2)
    }
}

/* Left operands of more bytes than this are taken in pieces, which stay in L2 while B passes. */
#define LEFT_BYTES (512 * 1024)

static void tile_product(const uint16_t *a, int64_t a_panel, const uint16_t *b, int64_t b_panel,
                         const float *bias, float *c, int64_t c_panel, const float *gate,
                         int epilogue, int64_t rows, int64_t n_k, int64_t n_panels, int terms)
{
    const int64_t n_steps = (n_k + 31) / 32;
    int64_t piece = LEFT_BYTES / (n_steps * 64 * terms) / 32 * 32;
    piece = piece < 32 ? 32 : piece;
    for (int64_t first = 0; first < rows; first += piece)
        for (int64_t p = 0; p < n_panels; p += 2) {
            const int64_t end = first + piece < rows ? first + piece : rows;
            operands o = {NULL, b + p * b_panel, a_panel, 512, a_panel / 2, b_panel, b_panel / 2,
                          n_steps};
            for (int64_t i = first; i < end; i += 32) {
                const int64_t at = p * c_panel + i * 16;
                target to = {c + at, bias ? bias + p * 16 : NULL, gate ? gate + at : NULL, c_panel,
                             epilogue, 0};
                o.a = a + i * 32;
                any_block(terms, p + 1 < n_panels ? 2 : 1, &o, &to, end - i < 32 ? end - i : 32);
            }
        }
}

static void tile_weight_gradient(const uint16_t *a, int64_t a_panel, const uint16_t *d,
                                 int64_t d_panel, float *g, int64_t g_panel, int64_t rows,
                                 int64_t n_k, int64_t n_panels, int accumulate, int terms)
{
    for (int64_t k = 0; k < n_k; k += 32)
        for (int64_t p = 0; p < n_panels; p += 2) {
            const operands o = {a + k / 16 * a_panel, d + p * d_panel, 512,     a_panel,
                                a_panel / 2,          d_panel,         d_panel / 2,
                                (rows + 31) / 32};
            const target to = {g + p * g_panel + k * 16, NULL, NULL, g_panel, FB_AS_IT_IS,
                               accumulate};
            any_block(terms, p + 1 < n_panels ? 2 : 1, &o, &to, n_k - k < 32 ? n_k - k : 32);
        }
}
