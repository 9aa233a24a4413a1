/* Both dtypes of one instruction set. Included by isa_*.c after the target pragma, with VBYTES,
 * ISA_NAME and ISA (the suffix of every name) defined. */

#include "names.h"

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
