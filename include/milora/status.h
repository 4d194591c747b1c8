/* SPDX-License-Identifier: Apache-2.0 */
/* status.h - the outcome of every fallible call, and the place where its explanation is kept.
 *
 * One list makes the enumeration, the short names and the sentences. A fallible function returns an
 * enum mil_status and takes a struct mil_error * last; on success the struct is left untouched.
 * The library never prints and never exits: the message travels up in struct mil_error. */
#ifndef MILORA_STATUS_H
#define MILORA_STATUS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(enumerator, exit code of the command line, sentence) */
#define MIL_STATUS_MAP(X)                                                                          \
    X(MIL_OK, 0, "success")                                                                        \
    X(MIL_USAGE, 2, "wrong usage: an argument or an option cannot be honoured")                    \
    X(MIL_INPUT, 2, "bad input: a file, a configuration or a record breaks its format")            \
    X(MIL_UNSUPPORTED, 2, "the input asks for something this program does not do")                 \
    X(MIL_ACCESS, 2, "a path cannot be opened, read, created or written as asked")                 \
    X(MIL_MISMATCH, 2, "two inputs do not belong together (adapter and base, state and config)")   \
    X(MIL_IO, 1, "the system failed while reading or writing (disk full, device error)")           \
    X(MIL_NOMEM, 1, "not enough memory")                                                           \
    X(MIL_NUMERIC, 1, "a computation left the finite numbers or did not converge")                 \
    X(MIL_DEVICE, 1, "a numerical library or a device refused a call")                             \
    X(MIL_INTERRUPTED, 1, "stopped on request; the state was saved")

enum mil_status {
#define MIL_STATUS_ENUM(name, code, text) name,
    MIL_STATUS_MAP(MIL_STATUS_ENUM)
#undef MIL_STATUS_ENUM
};

/* Filled once, where the fact is known; callers may only put a place in front of it.
 * offset: byte offset in the input the message speaks of, or -1. message: NUL-terminated, one line.
 */
struct mil_error {
    enum mil_status status;
    int64_t offset;
    char message[512];
};

/* "MIL_INPUT"; never NULL, also for values outside the list. */
const char *mil_status_name(enum mil_status status);
/* The sentence of the list above. */
const char *mil_status_text(enum mil_status status);
/* The exit code that the command line uses for this status (0, 1 or 2). */
int mil_status_exit_code(enum mil_status status);

#ifdef __cplusplus
}
#endif
#endif
