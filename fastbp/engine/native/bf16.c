/* Which paths of bf16.h run here: asked of the processor (cpuid), of the system (xgetbv, arch_prctl)
 * and of nothing else. */
#include "kernels.h"
#include "bf16.h"

#if defined(__x86_64__) || defined(_M_X64)
#define X86 1
#include <cpuid.h>
#endif
#if defined(X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define LINUX_X86 1
#endif

extern const fb_bf16 fb_bf16_emulation, fb_bf16_vectors, fb_bf16_amx;

static struct {
    const fb_bf16 *table;
    int fast;
} paths[3];
static int n_paths = 0;

static void add(const fb_bf16 *table, int fast)
{
    paths[n_paths].table = table;
    paths[n_paths++].fast = fast;
}

#ifdef X86
static int is_amd(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx &&
           d == signature_AMD_edx;
}

static int has_avx512_bf16(void)
{
    unsigned a, b, c, d;
    fb_n_instruction_sets();
    return strcmp(fb_instruction_set(0), "avx512") == 0 && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
           (a & 1u << 5);
}
#endif

#ifdef LINUX_X86
/* AMX-TILE and AMX-BF16 of the processor, and a system that saves tiles and would allow them. */
static int has_amx(void)
{
    enum { ARCH_GET_XCOMP_SUPP = 0x1021 };
    const unsigned tile_and_bf16 = 1u << 24 | 1u << 22, tile_state = 1u << 17 | 1u << 18;
    unsigned a, b, c, d, low, high;
    uint64_t supported = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tile_and_bf16) != tile_and_bf16)
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & tile_state) != tile_state)
        return 0;
    return syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &supported) == 0 &&
           (supported & tile_state) == tile_state;
}
#endif

int fb_n_bf16_paths(void)
{
    if (n_paths)
        return n_paths; /* the first call is made at import, by one thread */
#ifdef LINUX_X86
    if (has_avx512_bf16() && has_amx())
        add(&fb_bf16_amx, 1);
#endif
#ifdef X86
    if (has_avx512_bf16())
        add(&fb_bf16_vectors, is_amd());
#endif
    add(&fb_bf16_emulation, 0);
    return n_paths;
}

const fb_bf16 *fb_bf16_path(int index) { return paths[index].table; }

int fb_bf16_is_fast(int index) { return paths[index].fast; }

int fb_bf16_is_allowed(const fb_bf16 *path)
{
#ifdef LINUX_X86
    if (path == &fb_bf16_amx)
        return fb_amx_is_allowed();
#endif
    (void)path;
    return 1;
}
