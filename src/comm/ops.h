/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - what an implementation of the collectives provides; private to src/comm. */
#ifndef MIL_COMM_OPS_H
#define MIL_COMM_OPS_H

#include "comm/comm.h"

struct comm_ops {
    void (*close)(struct comm *c);
    void (*all_reduce_sum)(struct comm *c, struct stream *s, struct tensor t);
    enum mil_status (*all_reduce_sum_f64)(struct comm *c, double *x, size_t n,
                                          struct mil_error *err);
    enum mil_status (*broadcast)(struct comm *c, void *bytes, size_t n, int root,
                                 struct mil_error *err);
    enum mil_status (*barrier)(struct comm *c, struct mil_error *err);
};

/* An implementation's own struct begins with this. */
struct comm {
    const struct comm_ops *ops;
    const char *name;
    struct backend *backend;
    int rank, ranks;
};

enum mil_status comm_self_open(struct backend *b, struct comm **out, struct mil_error *err);
enum mil_status comm_mpi_open(struct backend *b, struct comm **out, struct mil_error *err);
enum mil_status comm_nccl_open(struct backend *b, struct comm **out, struct mil_error *err);

#endif
