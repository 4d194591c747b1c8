/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - filling struct mil_error, and the two kinds of assertion.
 *
 * Could a user's file, option or machine cause it?  Then it is a status: error_set where the fact
 * is known, error_prefix on the way up ("layer 12: ", "model.safetensors: ").  Otherwise it is our
 * own broken contract: REQUIRE aborts, in release builds too; DCHECK is for inner loops, debug
 * only. Every function here accepts err == NULL (the caller does not want the text). */
#ifndef MIL_CORE_ERROR_H
#define MIL_CORE_ERROR_H

#include <stdint.h>

#include "milora/status.h"

#define MIL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Record status and message (cut at the struct's capacity, control characters replaced by '?');
 * offset becomes -1.  Returns status, so that it can stand in a return statement. */
enum mil_status error_set(struct mil_error *err, enum mil_status status, const char *fmt, ...)
    MIL_PRINTF(3, 4);
/* The same with a byte offset. */
enum mil_status error_set_at(struct mil_error *err, enum mil_status status, int64_t offset,
                             const char *fmt, ...) MIL_PRINTF(4, 5);
/* From errno: a path that cannot be used as asked is MIL_ACCESS (exit 2), a failing system MIL_IO
 * (exit 1), ENOMEM MIL_NOMEM.  The message is "<what>: <strerror>". */
enum mil_status error_errno(struct mil_error *err, int errno_value, const char *fmt, ...)
    MIL_PRINTF(3, 4);
/* Out of memory while asking for bytes (0 when unknown). */
enum mil_status error_nomem(struct mil_error *err, uint64_t bytes);
/* Put text in front of the message. Returns err->status (MIL_OK only if err is NULL: pass the
 * status on yourself then). */
enum mil_status error_prefix(struct mil_error *err, const char *fmt, ...) MIL_PRINTF(2, 3);

/* Evaluate a fallible call and return its status from the enclosing function unless it is MIL_OK.
 */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum mil_status try_status_ = (call);                                                      \
        if (try_status_ != MIL_OK) return try_status_;                                             \
    } while (0)
/* The same, leaving through a `fail:` label with the status in the local variable `st`. */
#define TRY_GOTO(call)                                                                             \
    do {                                                                                           \
        st = (call);                                                                               \
        if (st != MIL_OK) goto fail;                                                               \
    } while (0)

_Noreturn void require_failed(const char *condition, const char *file, int line);
#define REQUIRE(cond) ((cond) ? (void)0 : require_failed(#cond, __FILE__, __LINE__))
#ifdef NDEBUG
#define DCHECK(cond) ((void)0)
#else
#define DCHECK(cond) REQUIRE(cond)
#endif

#endif
