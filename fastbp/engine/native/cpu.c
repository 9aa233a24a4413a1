/* What depends on the processor or the system and not on a dtype: which instruction sets run here,
 * the table of kernels for one of them, flushing of subnormals, aligned memory, the clock. */
#include "kernels.h"
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#define X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif
#ifdef _WIN32
#include <windows.h>
#else
#include <time.h>
#endif

#define DECLARE(isa) extern const fb_kernels fb_kernels_##isa##_f32, fb_kernels_##isa##_f64;
DECLARE(baseline)
#ifdef X86
DECLARE(avx2)
DECLARE(avx512)

/* The processor has the instructions (cpuid) and the system saves their registers (xgetbv). Asked
 * directly, because __builtin_cpu_supports needs a runtime that clang-cl does not link. */
static int has_avx(unsigned leaf7_ebx, unsigned saved_state)
{
    unsigned a, b, c, d;
    const unsigned osxsave_avx_fma = 1u << 27 | 1u << 28 | 1u << 12;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & osxsave_avx_fma) != osxsave_avx_fma)
        return 0;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & saved_state) != saved_state || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    return (b & leaf7_ebx) == leaf7_ebx;
}
#endif

static const fb_kernels *tables[3][2];
static int n_tables = 0;

static void add(const fb_kernels *f32, const fb_kernels *f64)
{
    tables[n_tables][0] = f32;
    tables[n_tables++][1] = f64;
}

int fb_n_instruction_sets(void)
{
    if (n_tables)
        return n_tables; /* the first call is made at import, by one thread */
#ifdef X86
    const unsigned avx2 = 1u << 5, avx512 = avx2 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    if (has_avx(avx512, 0xe6))
        add(&fb_kernels_avx512_f32, &fb_kernels_avx512_f64);
    if (has_avx(avx2, 0x6))
        add(&fb_kernels_avx2_f32, &fb_kernels_avx2_f64);
#endif
    add(&fb_kernels_baseline_f32, &fb_kernels_baseline_f64);
    return n_tables;
}

const char *fb_instruction_set(int index) { return tables[index][0]->isa; }

const fb_kernels *fb_find_kernels(int index, int itemsize) { return tables[index][itemsize == 8]; }

/* Late in training gradients and moments become subnormal, and arithmetic on them is 10 times
 * slower. */
uint64_t fb_flush_subnormals(void)
{
#if defined(X86)
    unsigned state = _mm_getcsr();
    _mm_setcsr(state | 0x8040); /* FTZ, DAZ */
    return state;
#elif defined(__aarch64__)
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    __asm__ volatile("msr fpcr, %0" : : "r"(state | (1ull << 24))); /* FZ */
    return state;
#else
    return 0;
#endif
}

void fb_restore_float_state(uint64_t state)
{
#if defined(X86)
    _mm_setcsr((unsigned)state);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(state));
#else
    (void)state;
#endif
}

/* For tests alone: how many allocations succeed before one fails; negative: none is made to fail. */
static int64_t allocations_to_failure = -1;

int64_t fb_fail_allocation(int64_t after)
{
    return __atomic_exchange_n(&allocations_to_failure, after, __ATOMIC_RELAXED);
}

/* calloc and an aligned address inside it: fresh pages cost nothing until they are touched, and it
 * exists everywhere. The original pointer stands before the block. */
void *fb_allocate(size_t bytes)
{
    if (bytes > SIZE_MAX - 128)
        return NULL;
    if (__atomic_load_n(&allocations_to_failure, __ATOMIC_RELAXED) >= 0 &&
        __atomic_fetch_sub(&allocations_to_failure, 1, __ATOMIC_RELAXED) == 0)
        return NULL;
    char *original = calloc(bytes + 128, 1);
    if (!original)
        return NULL;
    char *block = (char *)(((uintptr_t)original + 64 + 63) & ~(uintptr_t)63);
    memcpy(block - sizeof(void *), &original, sizeof(void *));
    return block;
}

void fb_release(void *block)
{
    if (!block)
        return;
    void *original;
    memcpy(&original, (char *)block - sizeof(void *), sizeof(void *));
    free(original);
}

int64_t fb_clock_ns(void)
{
#ifdef _WIN32
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (int64_t)((double)now.QuadPart * 1e9 / (double)frequency.QuadPart);
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
#endif
}
