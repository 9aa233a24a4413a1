#include "fingerprint.h"
#include "kernels.h"
#include <string.h>

enum { CHAINS = 8, BLOCK = CHAINS * sizeof(uint64_t) };

/* A word is mixed into its chain: different words give different states, so that one changed word
 * never goes unseen. The rotation brings high bits, signs among them, to where the next product
 * spreads them; without it two changed signs in a chain would cancel. */
static inline uint64_t mix_in(uint64_t chain, uint64_t word)
{
    uint64_t product = (chain ^ word) * 0x9e3779b97f4a7c15u;
    __asm__("" : "+r"(product)); /* in a register: as vectors of SSE2 it takes five times as long */
    return product << 29 | product >> 35;
}

/* Eight chains side by side hide the latency of the product. */
static inline void mix_block(uint64_t *chains, const void *block)
{
    uint64_t words[CHAINS];
    memcpy(words, block, BLOCK);
    for (int c = 0; c < CHAINS; c++)
        chains[c] = mix_in(chains[c], words[c]);
}

uint64_t fb_fingerprint(const void *bytes, size_t size, size_t every)
{
    const char *first = bytes;
    char rest[BLOCK] = {0};
    uint64_t chains[CHAINS], result = size;
    for (int c = 0; c < CHAINS; c++)
        chains[c] = fb_mix((uint64_t)c);
    for (size_t start = 0; start < size; start += every * FB_PIECE) {
        const char *at = first + start;
        size_t left = size - start < FB_PIECE ? size - start : FB_PIECE;
        for (; left >= BLOCK; left -= BLOCK, at += BLOCK)
            mix_block(chains, at);
        memcpy(rest, at, left); /* nothing but in the last piece */
    }
    mix_block(chains, rest);
    for (int c = 0; c < CHAINS; c++)
        result = fb_mix(result ^ chains[c]);
    return result;
}
