/* SPDX-License-Identifier: Apache-2.0 */
/* mpi_stub.c - stands where the collectives over MPI are not built. */
#include "comm/ops.h"

enum mil_status comm_mpi_open(struct backend *b, struct comm **out, struct mil_error *err) {
    (void)b;
    *out = NULL;
    return error_set(err, MIL_UNSUPPORTED,
                     "collectives 'mpi': this build has no MPI; use 'self' (one process)");
}
