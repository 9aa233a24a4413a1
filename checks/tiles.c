/* The path "amx" against the path "emulation", bit for bit: each kernel of both tables on random
 * operands of many shapes and sizes. `checks/tiles.py` compiles and runs it.
 *
 * Where the processor has no tile registers, each of their instructions raises SIGILL, and the
 * handler here does what the instruction would have done, on tiles in memory. So the compiled code
 * of bf16_amx.c runs as it is: addresses, order of operands, configuration, release. What the unit
 * itself computes is then the emulation's word; with registers it is the hardware's.
 *
 * Every operand ends where its array ends, and the handler reads and writes memory in C: built with
 * the address sanitizer, it sees what tiles touch, which inside their instructions it would not. */
#define _GNU_SOURCE
#include "bf16_emulation.c"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

extern const fb_bf16 fb_bf16_amx;

static struct {
    uint32_t dword[16][16];
} registers[8];
static int is_configured = 0;
static long trapped = 0;

static void die(const char *message)
{
    fprintf(stderr, "%s\n", message);
    _Exit(2);
}

/* --- the six instructions (Intel SDM, volume 2: VEX, map 0F38) -------------------------------- */

typedef struct {
    const uint8_t *end;          /* behind the instruction */
    int opcode, prefix, reg, rm, v, is_register;
    char *address;
    int64_t stride;
} decoded;

static int64_t value_of(const greg_t *gregs, int number)
{
    static const int places[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15};
    return gregs[places[number]];
}

/* A memory operand: base + stride * 1 + displacement, or relative to the next instruction. */
static void decode_address(decoded *d, const uint8_t *at, const greg_t *gregs, int x, int b)
{
    const int mod = at[0] >> 6;
    int base = d->rm, relative = mod == 0 && d->rm == 5;
    int64_t address = 0;
    at++;
    if (d->rm == 4) {
        const int index = (at[0] >> 3 & 7) | x << 3;
        base = at[0] & 7;
        relative = 0;
        if (mod == 0 && base == 5)
            die("an address without a base");
        if (index != 4)
            d->stride = value_of(gregs, index) << (at[0] >> 6);
        at++;
    }
    if (!relative)
        address = value_of(gregs, base | b << 3);
    if (mod == 1) {
        address += (int8_t)at[0];
        at++;
    } else if (mod == 2 || relative) {
        int32_t displacement;
        memcpy(&displacement, at, 4);
        address += displacement;
        at += 4;
    }
    d->end = at;
    d->address = (char *)(relative ? address + (int64_t)at : address);
}

static decoded decode(const uint8_t *at, const greg_t *gregs)
{
    decoded d = {0};
    if (at[0] != 0xc4 || (at[1] & 31) != 2)
        die("an instruction that is none of a tile's");
    d.opcode = at[3];
    d.prefix = at[2] & 3;
    d.v = ~(at[2] >> 3) & 15;
    d.reg = at[4] >> 3 & 7;
    d.rm = at[4] & 7;
    d.is_register = at[4] >> 6 == 3;
    if (d.is_register)
        d.end = at + 5;
    else
        decode_address(&d, at + 4, gregs, !(at[1] >> 6 & 1), !(at[1] >> 5 & 1));
    return d;
}

static void configure(const char *from)
{
    const uint8_t *bytes = (const uint8_t *)from;
    if (bytes[0] != 1 || bytes[1] != 0)
        die("not palette 1");
    for (int t = 0; t < 8; t++)
        if (bytes[16 + 2 * t] != 64 || bytes[17 + 2 * t] != 0 || bytes[48 + t] != 16)
            die("tiles of another size");
    for (int i = 0; i < 16; i++)
        if ((i > 1 && bytes[i]) || bytes[32 + i] || (i >= 8 && bytes[48 + i]))
            die("reserved bytes are not 0");
    is_configured = 1;
}

static void multiply(int sums, int left, int right)
{
    tile c, a, b;
    start_tile(&c, (const float *)registers[sums].dword, 64);
    load_tile(&a, (const uint16_t *)registers[left].dword);
    load_tile(&b, (const uint16_t *)registers[right].dword);
    multiply_tiles(&c, &a, &b);
    store_tile(&c, (float *)registers[sums].dword);
}

static void trap(int number, siginfo_t *info, void *context)
{
    greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const decoded d = decode((const uint8_t *)gregs[REG_RIP], gregs);
    const int kind = d.opcode << 8 | d.prefix << 4 | d.is_register;
    (void)number, (void)info;
    trapped++;
    if (kind == 0x4900) {
        configure(d.address);
    } else if (!is_configured) {
        die("tiles are not configured");
    } else if (kind == 0x4901) {
        is_configured = 0;
        memset(registers, 0xff, sizeof registers);
    } else if (kind == 0x4931) {
        memset(&registers[d.reg], 0, sizeof registers[0]);
    } else if (kind == 0x4b30) {
        for (int i = 0; i < 16; i++)
            memcpy(registers[d.reg].dword[i], d.address + i * d.stride, 64);
    } else if (kind == 0x4b20) {
        for (int i = 0; i < 16; i++)
            memcpy(d.address + i * d.stride, registers[d.reg].dword[i], 64);
    } else if (kind == 0x5c21) {
        multiply(d.reg, d.rm, d.v);
    } else {
        die("an unknown instruction of tiles");
    }
    gregs[REG_RIP] = (greg_t)d.end;
}

/* --- random operands ------------------------------------------------------------------------- */

enum { SIZE = 1 << 17, CAPACITY = 160 };
static float source[SIZE], bias[256], gate[SIZE], results[2][SIZE];
static uint16_t lefts[2][2 * SIZE], rights[2][2 * SIZE];

/* Where n numbers of an array lie so that they end with it. */
#define LAST(array, n) ((array) + sizeof(array) / sizeof((array)[0]) - (n))

static int64_t below(int64_t n) { return rand() % n; }

/* Values of many sizes; some are 0, subnormal or would overflow. */
static float draw(void)
{
    static const int spread[] = {2, 20, 60, 250};
    const int n = spread[below(4)];
    const float x = (float)rand() / (float)RAND_MAX - 0.5f;
    return below(20) == 0 ? 0 : __builtin_ldexpf(x, (int)below(n) - n / 2);
}

static long differences(const void *a, const void *b, int64_t n_words, int is_float)
{
    const uint32_t *x = a, *y = b;
    long n = 0;
    for (int64_t i = 0; i < n_words; i++) {
        const int both_nan = is_float && (x[i] & 0x7fffffffu) > 0x7f800000u &&
                             (y[i] & 0x7fffffffu) > 0x7f800000u;
        n += x[i] != y[i] && !both_nan;
    }
    return n;
}

static const fb_bf16 *const tables[2] = {&fb_bf16_emulation, &fb_bf16_amx};

/* What one trial is about, and in how many words each kernel's results differ. */
typedef struct {
    int64_t rows, n_k, n_panels, k_panels;
    int terms, epilogue, accumulate;
    long rounded, product, gradient;
} trial;

/* Panels CAPACITY rows high. */
static int64_t high(int64_t n_panels) { return n_panels * CAPACITY * 16; }

/* Activations in such panels, 0 past column n_k; as weights, numbers of the same array. */
static void draw_source(const trial *t)
{
    float *last = LAST(source, high(1));
    memset(lefts, 0, sizeof lefts);
    memset(rights, 0, sizeof rights);
    for (int64_t i = 0; i < SIZE; i++)
        source[i] = draw(), gate[i] = (float)below(2), results[0][i] = results[1][i] = 1;
    for (int64_t i = 0; i < high(1) && t->n_k % 16; i++)
        if (i % 16 >= t->n_k % 16)
            last[i] = 0;
}

static void compare_products(trial *t)
{
    const int64_t panel = t->terms * CAPACITY * 32, steps = (t->n_k + 31) / 32;
    const int64_t weight_panel = t->terms * steps * 512, even = t->n_k + t->n_k % 2;
    draw_source(t);
    for (int i = 0; i < 2; i++) {
        uint16_t *left = LAST(lefts[i], steps * panel);
        uint16_t *right = LAST(rights[i], t->n_panels * weight_panel);
        tables[i]->round_rows(LAST(source, high(t->k_panels)), CAPACITY * 16, t->rows, t->k_panels,
                              left, panel, t->terms);
        tables[i]->round_pairs(LAST(source, t->n_panels * t->n_k * 16), t->n_k * 16, t->n_k, even,
                               t->n_panels, right, weight_panel, t->terms);
        tables[i]->begin();
        tables[i]->product(left, panel, right, weight_panel,
                           t->accumulate ? LAST(bias, t->n_panels * 16) : NULL,
                           LAST(results[i], high(t->n_panels)), CAPACITY * 16,
                           LAST(gate, high(t->n_panels)), t->epilogue, t->rows, t->n_k,
                           t->n_panels, t->terms);
        tables[i]->end();
    }
    t->rounded += differences(lefts[0], lefts[1], SIZE, 0);
    t->rounded += differences(rights[0], rights[1], SIZE, 0);
    t->product += differences(results[0], results[1], SIZE, 1);
}

static void compare_gradients(trial *t)
{
    const int64_t panel = t->terms * CAPACITY * 16, padded = (t->rows + 31) / 32 * 32;
    draw_source(t);
    for (int i = 0; i < 2; i++) {
        uint16_t *left = LAST(lefts[i], t->k_panels * panel);
        uint16_t *right = LAST(rights[i], t->n_panels * panel);
        tables[i]->round_left(LAST(source, high(t->k_panels)), CAPACITY * 16, t->rows, padded,
                              t->k_panels, left, panel, t->terms);
        tables[i]->round_pairs(LAST(source, high(t->n_panels)), CAPACITY * 16, t->rows, padded,
                               t->n_panels, right, panel, t->terms);
        tables[i]->begin();
        tables[i]->weight_gradient(left, panel, right, panel,
                                   LAST(results[i], t->n_panels * t->n_k * 16), t->n_k * 16,
                                   t->rows, t->n_k, t->n_panels, t->accumulate, t->terms);
        tables[i]->end();
    }
    t->rounded += differences(lefts[0], lefts[1], SIZE, 0);
    t->rounded += differences(rights[0], rights[1], SIZE, 0);
    t->gradient += differences(results[0], results[1], SIZE, 1);
}

static void compare_transposes(trial *t)
{
    const int64_t panel = t->terms * ((t->n_panels + 1) / 2 * 512);
    draw_source(t);
    for (int i = 0; i < 2; i++)
        tables[i]->round_across(LAST(source, t->n_panels * t->n_k * 16), t->n_k * 16, t->n_k,
                                t->n_panels, LAST(rights[i], t->k_panels * panel), panel, t->terms);
    t->rounded += differences(rights[0], rights[1], SIZE, 0);
}

int main(int argc, char **argv)
{
    const long n_trials = argc > 1 ? atol(argv[1]) : 200;
    const int has_tiles = fb_amx_is_allowed();
    struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
    trial t = {0};
    srand(argc > 2 ? (unsigned)atol(argv[2]) : 0);
    if (!has_tiles)
        sigaction(SIGILL, &action, NULL);
    for (int i = 0; i < 256; i++)
        bias[i] = draw();
    for (long i = 0; i < n_trials; i++) {
        t.rows = 1 + below(CAPACITY - 31);
        t.n_k = 1 + below(140);
        t.n_panels = 1 + below(6);
        t.k_panels = (t.n_k + 15) / 16;
        t.terms = 1 + (int)below(2);
        t.epilogue = (int)below(3);
        t.accumulate = (int)below(2);
        compare_products(&t);
        compare_gradients(&t);
        compare_transposes(&t);
    }
    printf("%ld shapes, tiles %s (%ld instructions): words that differ: operands %ld, products %ld, "
           "weight gradients %ld\n", n_trials, has_tiles ? "of the processor" : "in memory", trapped,
           t.rounded, t.product, t.gradient);
    return t.rounded || t.product || t.gradient || is_configured;
}
