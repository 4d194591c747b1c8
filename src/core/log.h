/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - notices from inside the library to whoever listens (the command line prints them to
 * standard error).  The library itself prints nothing: without a sink, notices are dropped. */
#ifndef MIL_CORE_LOG_H
#define MIL_CORE_LOG_H

#include "core/error.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING };

typedef void (*log_sink)(void *ctx, enum log_level level, const char *line);
/* One sink a process; set it before starting work. */
void log_set_sink(log_sink sink, void *ctx);
void log_info(const char *fmt, ...) MIL_PRINTF(1, 2);
void log_warning(const char *fmt, ...) MIL_PRINTF(1, 2);
void log_debug(const char *fmt, ...) MIL_PRINTF(1, 2);

#endif
