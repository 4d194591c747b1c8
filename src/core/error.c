/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - formatting of error messages into their fixed space.  No allocation anywhere, so that
 * running out of memory can be reported too. */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *mil_status_name(enum mil_status status) {
    switch (status) {
#define STATUS_NAME(name, code, text)                                                              \
    case name: return #name;
        MIL_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    }
    return "MIL_UNKNOWN";
}

const char *mil_status_text(enum mil_status status) {
    switch (status) {
#define STATUS_TEXT(name, code, text)                                                              \
    case name: return text;
        MIL_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "unknown status";
}

int mil_status_exit_code(enum mil_status status) {
    switch (status) {
#define STATUS_CODE(name, code, text)                                                              \
    case name: return code;
        MIL_STATUS_MAP(STATUS_CODE)
#undef STATUS_CODE
    }
    return 1;
}

/* Messages quote hostile input: whatever could move a terminal's cursor becomes '?'. */
static void make_printable(char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = '?';
}

static enum mil_status fill(struct mil_error *err, enum mil_status status, int64_t offset,
                            const char *fmt, va_list args) {
    if (!err) return status;
    err->status = status;
    err->offset = offset;
    vsnprintf(err->message, sizeof err->message, fmt, args);
    make_printable(err->message);
    return status;
}

enum mil_status error_set(struct mil_error *err, enum mil_status status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(err, status, -1, fmt, args);
    va_end(args);
    return status;
}

enum mil_status error_set_at(struct mil_error *err, enum mil_status status, int64_t offset,
                             const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(err, status, offset, fmt, args);
    va_end(args);
    return status;
}

static enum mil_status status_of_errno(int e) {
    switch (e) {
    case ENOENT:
    case EACCES:
    case EPERM:
    case ENOTDIR:
    case EISDIR:
    case EROFS:
    case ENAMETOOLONG:
    case ELOOP:
    case EEXIST:
    case ENOTEMPTY:
    case EINVAL:
    case EXDEV:
    case ETXTBSY: return MIL_ACCESS;
    case ENOMEM: return MIL_NOMEM;
    default: return MIL_IO;
    }
}

enum mil_status error_errno(struct mil_error *err, int errno_value, const char *fmt, ...) {
    enum mil_status status = status_of_errno(errno_value);
    if (!err) return status;
    va_list args;
    va_start(args, fmt);
    fill(err, status, -1, fmt, args);
    va_end(args);
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof err->message - used, ": %s", strerror(errno_value));
    return status;
}

enum mil_status error_nomem(struct mil_error *err, uint64_t bytes) {
    if (bytes == 0) return error_set(err, MIL_NOMEM, "out of memory");
    return error_set(err, MIL_NOMEM, "out of memory: could not get %.1f MiB",
                     (double)bytes / (1024.0 * 1024.0));
}

enum mil_status error_prefix(struct mil_error *err, const char *fmt, ...) {
    if (!err) return MIL_OK;
    char old[sizeof err->message];
    memcpy(old, err->message, sizeof old);
    va_list args;
    va_start(args, fmt);
    fill(err, err->status, err->offset, fmt, args);
    va_end(args);
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof err->message - used, "%s", old);
    return err->status;
}

_Noreturn void require_failed(const char *condition, const char *file, int line) {
    fprintf(stderr, "milora: internal error: %s does not hold (%s:%d); please report this\n",
            condition, file, line);
    abort();
}
