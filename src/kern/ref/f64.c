/* SPDX-License-Identifier: Apache-2.0 */
/* f64.c - the reference kernels with everything in f64: the oracle of the tests, and the instance
 * in which finite differences are taken. */
#include <math.h>

#include "core/dtype.h"

typedef double real;
typedef double act;
#define REAL_TYPE DT_F64
#define ACT_TYPE DT_F64
#define real_exp exp
#define real_log log
#define real_sqrt sqrt
static inline real act_load(act x) {
    return x;
}
static inline act act_store(real x) {
    return x;
}
#define KERN_REF_FILL kern_ref_fill_f64
#define KERN_REF_MAP kern_ref_map_f64
#include "kern/ref/table_tmpl.h"
