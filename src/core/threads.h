/* SPDX-License-Identifier: Apache-2.0 */
/* threads.h - the one parallel loop.  OpenMP underneath, shared with the numerical libraries.
 *
 * Work is cut into chunks of `grain` items; the cut depends on n and grain only, never on the
 * number of threads, so a reduction done per chunk and summed in chunk order has the same bits on
 * any machine. */
#ifndef MIL_CORE_THREADS_H
#define MIL_CORE_THREADS_H

#include <stdint.h>

/* Number of threads for own loops and for the libraries that share the runtime; n <= 0: all that
 * this process may run on. */
void threads_set(int n);
int threads_count(void);

/* fn(ctx, begin, end) for [0, n) in chunks of grain (the last one shorter), on all threads; returns
 * when all are done.  fn must not depend on which thread runs it.  Nested calls run serially. */
typedef void (*parallel_fn)(void *ctx, int64_t begin, int64_t end);
void parallel_for(int64_t n, int64_t grain, parallel_fn fn, void *ctx);
/* Index of the calling thread inside parallel_for, 0 .. threads_count()-1; for per-thread scratch.
 */
int threads_index(void);

/* Monotonic clock in seconds. */
double clock_seconds(void);

#endif
