/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - see log.h. */
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

static log_sink sink_;
static void *ctx_;

void log_set_sink(log_sink sink, void *ctx) {
    sink_ = sink;
    ctx_ = ctx;
}

static void emit(enum log_level level, const char *fmt, va_list args) {
    if (!sink_) return;
    char line[4096];
    vsnprintf(line, sizeof line, fmt, args);
    sink_(ctx_, level, line);
}

void log_info(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    emit(LOG_INFO, fmt, args);
    va_end(args);
}

void log_warning(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    emit(LOG_WARNING, fmt, args);
    va_end(args);
}

void log_debug(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    emit(LOG_DEBUG, fmt, args);
    va_end(args);
}
