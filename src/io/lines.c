/* SPDX-License-Identifier: Apache-2.0 */
/* lines.c - lines of a text file, of any length (up to str.h's limit), NUL bytes included.
 * getdelim would do the same with memory that nobody accounts for. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

enum mil_status lines_open(struct line_reader *r, const char *path, struct mil_error *err) {
    memset(r, 0, sizeof *r);
    int fd;
    size_t size;
    TRY(file_open_regular(path, &fd, &size, err));
    r->f = fdopen(fd, "r");
    if (!r->f) {
        int e = errno;
        close(fd);
        return error_errno(err, e, "%s: cannot open", path);
    }
    r->path = path;
    return MIL_OK;
}

enum mil_status lines_next(struct line_reader *r, const char **line, size_t *n,
                           struct mil_error *err) {
    char piece[4096];
    size_t used = 0;
    int c;
    bool any = false;
    str_reset(&r->line);
    while ((c = getc_unlocked(r->f)) != EOF) {
        any = true;
        if (c == '\n') break;
        piece[used++] = (char)c;
        if (used < sizeof piece) continue;
        str_addn(&r->line, piece, used);
        used = 0;
    }
    if (c == EOF && ferror(r->f)) return error_errno(err, errno, "%s: cannot read", r->path);
    str_addn(&r->line, piece, used);
    if (str_status(&r->line, err) != MIL_OK) {
        error_prefix(err, "%s: line %lld: ", r->path, (long long)r->number + 1);
        return MIL_NOMEM;
    }
    size_t len = r->line.len;
    if (len && r->line.data[len - 1] == '\r') r->line.data[--len] = 0;
    if (any) r->number++;
    *line = any ? str_c(&r->line) : NULL;
    *n = any ? len : 0;
    return MIL_OK;
}

void lines_close(struct line_reader *r) {
    if (r->f) fclose(r->f);
    str_release(&r->line);
    memset(r, 0, sizeof *r);
}
