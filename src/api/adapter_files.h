/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_files.h - what merging and exporting share. */
#ifndef MIL_API_ADAPTER_FILES_H
#define MIL_API_ADAPTER_FILES_H

#include "model/checkpoint.h"

/* The type to write: as asked, else as the base's matrices are stored (NULL: fallback), else bf16.  MIL_USAGE. */
enum mil_status output_dtype(const char *asked, const struct checkpoint *base, enum dtype fallback,
                             enum dtype *out, struct mil_error *err);

#endif
