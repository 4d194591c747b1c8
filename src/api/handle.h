/* SPDX-License-Identifier: Apache-2.0 */
/* handle.h - what stands behind the public handles; shared by the files of src/api only. */
#ifndef MIL_API_HANDLE_H
#define MIL_API_HANDLE_H

#include "adapt/adapter.h"
#include "milora/model.h"
#include "model/model.h"
#include "text/tokenizer.h"

/* Members are created in this order and freed in the reverse; the tokenizer may be NULL when the
 * model's directory has none. */
struct mil_model {
    struct checkpoint *checkpoint;
    struct backend *backend;
    struct model *model;
    struct tokenizer *tokenizer;
    struct adapter *adapter;
    struct adapter_runtime *runtime;
    int64_t positions;
};

#endif
