/* SPDX-License-Identifier: Apache-2.0 */
/* nccl_stub.c - stands where the collectives over NCCL are not built. */
#include "comm/ops.h"

enum mil_status comm_nccl_open(struct backend *b, struct comm **out, struct mil_error *err) {
    (void)b;
    *out = NULL;
    return error_set(err, MIL_UNSUPPORTED,
                     "collectives 'nccl': this build has no NCCL; use 'self' (one process)");
}
