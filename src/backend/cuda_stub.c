/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_stub.c - stands where the CUDA backend is not built. */
#include "backend/ops.h"

enum mil_status backend_cuda_open(enum dtype compute, struct backend **out, struct mil_error *err) {
    (void)compute;
    *out = NULL;
    return error_set(err, MIL_UNSUPPORTED,
                     "backend 'cuda': this build has no CUDA backend; use the cpu backend");
}
