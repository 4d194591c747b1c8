/* SPDX-License-Identifier: Apache-2.0 */
/* screen.c - standard error: plain lines, and on a terminal one progress line below them.
 *
 * Without a terminal no carriage return is ever written, so logs and pipes get whole lines only. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"

enum { PROGRESS_MILLISECONDS = 80 };
static bool terminal_, shown_;
static double last_progress_;

void screen_init(void) {
    const char *term = getenv("TERM");
    terminal_ = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

bool screen_is_terminal(void) {
    return terminal_;
}

static int columns(void) {
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20) return w.ws_col;
    return 80;
}

void screen_clear(void) {
    if (!shown_) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    shown_ = false;
}

FILE *screen_stream(void) {
    screen_clear();
    return stderr;
}

void screen_progress(const char *fmt, ...) {
    if (!terminal_ || common.quiet) return;
    double now = mil_clock();
    if (now - last_progress_ < PROGRESS_MILLISECONDS / 1e3) return;
    last_progress_ = now;
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    fprintf(stderr, "\r\033[K%.*s", columns() - 1, line);
    fflush(stderr);
    shown_ = true;
}

void screen_line(const char *fmt, ...) {
    if (common.quiet) return;
    screen_clear();
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

void screen_text(const char *text) {
    if (common.quiet) return;
    screen_clear();
    fputs(text, stderr);
    size_t n = strlen(text);
    if (n == 0 || text[n - 1] != '\n') fputc('\n', stderr);
}

void screen_notice(void *ctx, enum mil_notice level, const char *line) {
    (void)ctx;
    if (level == MIL_NOTICE_DEBUG || (common.quiet && level != MIL_NOTICE_WARNING)) return;
    screen_clear();
    fprintf(stderr, "%s%s\n", level == MIL_NOTICE_WARNING ? "warning: " : "", line);
}
