/* SPDX-License-Identifier: Apache-2.0 */
/* comm.h - collectives among the processes (ranks) that train together.
 *
 * Rank r of n_ranks holds a copy of the trainable state; gradients are summed, decisions of rank 0
 * are broadcast.  Every rank makes the same calls in the same order.  An implementation is a table
 * of functions: self.c (one rank) is here, MPI and NCCL are stubs that say what is missing.
 *
 * A sum is made in a fixed order of ranks, so that all ranks hold the same bits afterwards, and a
 * repeated run the same again. */
#ifndef MIL_COMM_COMM_H
#define MIL_COMM_COMM_H

#include "backend/backend.h"

struct comm;

/* name: "self", "mpi" or "nccl".  b is borrowed and outlives the comm: buffers are in its memory.
 * MIL_UNSUPPORTED names what is missing. */
enum mil_status comm_open(const char *name, struct backend *b, struct comm **out,
                          struct mil_error *err);
void comm_free(struct comm **c);
const char *comm_name(const struct comm *c);
int comm_rank(const struct comm *c);  /* 0 .. comm_ranks - 1 */
int comm_ranks(const struct comm *c); /* >= 1 */

/* t = sum over ranks of t, in place; t: real, any ld.  Queued on the stream like any operation: a
 * failure sticks to it and is reported by stream_sync (MIL_DEVICE). */
void comm_all_reduce_sum(struct comm *c, struct stream *s, struct tensor t);
/* The same for n host numbers (losses, counts), at once.  MIL_DEVICE. */
enum mil_status comm_all_reduce_sum_f64(struct comm *c, double *x, size_t n, struct mil_error *err);
/* Bytes of host memory from rank root to all.  MIL_DEVICE. */
enum mil_status comm_broadcast(struct comm *c, void *bytes, size_t n, int root,
                               struct mil_error *err);
/* Return when all ranks have called it.  MIL_DEVICE. */
enum mil_status comm_barrier(struct comm *c, struct mil_error *err);

#endif
