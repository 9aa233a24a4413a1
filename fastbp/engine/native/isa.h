/* Both dtypes of one instruction set. Included by isa_*.c after the target pragma, with VBYTES,
 * ISA_NAME and ISA (the suffix of every name) defined. */

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define NAME(x) JOIN(x, ISA, DTYPE)

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define SHUFFLE(ivec, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define UNROLL _Pragma("GCC unroll 16")
#define SHUFFLE(ivec, a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

#define DTYPE f32
#define REAL float
#define REAL_BYTES 4
#define BITS int32_t
#define UBITS uint32_t
#include "template.h"
#include "undefine.h"

#define DTYPE f64
#define REAL double
#define REAL_BYTES 8
#define BITS int64_t
#define UBITS uint64_t
#include "template.h"
