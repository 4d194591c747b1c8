/* SPDX-License-Identifier: Apache-2.0 */
/* npy.h - NumPy's array file, version 1.0, float32 in C order. */
#ifndef MIL_IO_NPY_H
#define MIL_IO_NPY_H

#include "core/error.h"

enum mil_status npy_write_f32(const char *path, const float *data, int ndim, const int64_t *shape,
                              struct mil_error *err);
/* Read float32, C order, at most 4 dimensions; *data is mem_free'd by the caller. */
enum mil_status npy_read_f32(const char *path, float **data, int *ndim, int64_t shape[4],
                             struct mil_error *err);

#endif
