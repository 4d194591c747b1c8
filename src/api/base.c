/* SPDX-License-Identifier: Apache-2.0 */
/* base.c - settings of the whole library: threads, instruction set, where notices go. */
#include "core/cpu.h"
#include "core/log.h"
#include "core/threads.h"
#include "milora/model.h"

enum mil_status mil_init(int threads, struct mil_error *err) {
    TRY(cpu_isa_from_environment(err));
    threads_set(threads);
    return MIL_OK;
}

static struct {
    void (*fn)(void *ctx, enum mil_notice level, const char *line);
    void *ctx;
} receiver;

static void forward(void *ctx, enum log_level level, const char *line) {
    (void)ctx;
    enum mil_notice notice = MIL_NOTICE_INFO;
    if (level == LOG_WARNING) notice = MIL_NOTICE_WARNING;
    if (level == LOG_DEBUG) notice = MIL_NOTICE_DEBUG;
    receiver.fn(receiver.ctx, notice, line);
}

void mil_set_notice(void (*fn)(void *ctx, enum mil_notice level, const char *line), void *ctx) {
    log_set_sink(NULL, NULL);
    receiver.fn = fn;
    receiver.ctx = ctx;
    if (fn) log_set_sink(forward, NULL);
}
