/* SPDX-License-Identifier: Apache-2.0 */
/* comm.c - the table of implementations, and the checks that all of them share. */
#include "comm/comm.h"

#include <string.h>

#include "comm/ops.h"

static const struct {
    const char *name;
    enum mil_status (*open)(struct backend *b, struct comm **out, struct mil_error *err);
} implementations[] = {
    {"self", comm_self_open},
    {"mpi", comm_mpi_open},
    {"nccl", comm_nccl_open},
};

enum mil_status comm_open(const char *name, struct backend *b, struct comm **out,
                          struct mil_error *err) {
    *out = NULL;
    for (size_t i = 0; i < sizeof implementations / sizeof *implementations; i++)
        if (strcmp(name, implementations[i].name) == 0) return implementations[i].open(b, out, err);
    return error_set(err, MIL_UNSUPPORTED,
                     "collectives '%s': no such implementation; there are self, mpi and nccl",
                     name);
}

void comm_free(struct comm **c) {
    if (*c) (*c)->ops->close(*c);
    *c = NULL;
}

const char *comm_name(const struct comm *c) {
    return c->name;
}
int comm_rank(const struct comm *c) {
    return c->rank;
}
int comm_ranks(const struct comm *c) {
    return c->ranks;
}

void comm_all_reduce_sum(struct comm *c, struct stream *s, struct tensor t) {
    REQUIRE(t.dtype == backend_real(c->backend));
    if (t.rows > 0 && t.cols > 0) c->ops->all_reduce_sum(c, s, t);
}

enum mil_status comm_all_reduce_sum_f64(struct comm *c, double *x, size_t n,
                                        struct mil_error *err) {
    return n ? c->ops->all_reduce_sum_f64(c, x, n, err) : MIL_OK;
}

enum mil_status comm_broadcast(struct comm *c, void *bytes, size_t n, int root,
                               struct mil_error *err) {
    REQUIRE(root >= 0 && root < c->ranks);
    return n ? c->ops->broadcast(c, bytes, n, root, err) : MIL_OK;
}

enum mil_status comm_barrier(struct comm *c, struct mil_error *err) {
    return c->ops->barrier(c, err);
}
