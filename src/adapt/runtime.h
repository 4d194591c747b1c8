/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.h - an adapter on a backend, as the files of src/adapt see it. */
#ifndef MIL_ADAPT_RUNTIME_H
#define MIL_ADAPT_RUNTIME_H

#include "adapt/delta.h"
#include "adapt/internal.h"

struct adapter_runtime {
    struct adapter *adapter;
    struct model *model;
    struct backend *backend;
    struct delta_runtime *deltas; /* of adapter->deltas, one to one */
    size_t n;
    bool host_masters; /* the masters are the host adapter's arrays */
    void *slab;
    struct tensor sum; /* scratch of refresh */
    void *dora_slab;   /* and of dora_refresh */
    struct trainable trainable;
    struct whole_runtime *wholes; /* of adapter->wholes, one to one */
    size_t n_wholes;
    void *whole_slab;
    void *step; /* of the method's struct method_step */
};

#endif
