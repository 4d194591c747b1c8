/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_init.h - what making one adapter and comparing all methods share. */
#ifndef MIL_API_ADAPTER_INIT_H
#define MIL_API_ADAPTER_INIT_H

#include "adapt/adapter.h"
#include "milora/adapter.h"

/* What svd_cache may grow to, unless its limit is given. */
#define INIT_CACHE_LIMIT ((uint64_t)32 << 30)

/* The options as the adapter layer takes them; borrows. */
struct adapter_options init_inner_options(const struct mil_adapter_options *o);
/* The adapter as a directory, whole or not at all; *bytes: of adapter_model.safetensors. */
enum mil_status init_save(const struct adapter *a, const char *out, uint64_t *bytes,
                          struct mil_error *err);

#endif
