/* SPDX-License-Identifier: Apache-2.0 */
/* file.h - files and directories: mapped reading, and writing that is whole or absent.
 *
 * Anything this program writes goes through atomic_file (one file) or stage (one directory): it is
 * written under a temporary name beside its place, fsynced and renamed, so that a reader never sees
 * a part, and a full disk or a kill leaves what was there before.  Messages begin with the path. */
#ifndef MIL_IO_FILE_H
#define MIL_IO_FILE_H

#include <stdbool.h>
#include <stdio.h>

#include "core/error.h"
#include "core/str.h"

#define PATH_CAP 4096

/* "<dir>/<name>" into out; MIL_USAGE when longer than PATH_CAP. An empty dir gives name alone. */
enum mil_status path_join(char out[PATH_CAP], const char *dir, const char *name,
                          struct mil_error *err);
/* Last component of a path, borrowed from it (trailing slashes are not removed). */
const char *path_base(const char *path);
bool path_exists(const char *path);
bool path_is_dir(const char *path);
/* Would writing to the one change the other: the same text, or one regular file under two names? */
bool path_same_file(const char *a, const char *b);
/* mkdir -p. */
enum mil_status dir_make(const char *path, struct mil_error *err);
/* Sorted names in a directory without "." and "..".  names[i] and names are mem_free'd by
 * dir_list_free. */
enum mil_status dir_list(const char *path, char ***names, size_t *n, struct mil_error *err);
void dir_list_free(char **names, size_t n);
/* Remove a directory and what is in it; never follows symbolic links. Absent is success. */
enum mil_status dir_remove(const char *path, struct mil_error *err);
enum mil_status file_copy(const char *from, const char *to, struct mil_error *err);

/* A regular file opened for reading, and its size; *fd is the caller's to close, -1 after a failure.
 * MIL_ACCESS for what is none: a pipe nobody writes to would be waited for, a directory cannot be
 * read. */
enum mil_status file_open_regular(const char *path, int *fd, size_t *size, struct mil_error *err);

/* A file mapped read-only; data is NULL for an empty file.  The file must not shrink while mapped.
 */
struct mapped_file {
    const unsigned char *data;
    size_t size;
};
enum mil_status file_map(const char *path, struct mapped_file *m, struct mil_error *err);
void file_unmap(struct mapped_file *m);
/* The whole file appended to out; MIL_INPUT when larger than limit bytes. */
enum mil_status file_read(const char *path, size_t limit, struct str *out, struct mil_error *err);
/* Lines of a regular text file, of any length; *line is borrowed until the next call, without the newline
 * (and without a trailing CR).  *line == NULL at the end. */
struct line_reader {
    FILE *f;
    struct str line;
    int64_t number; /* of the line last returned, from 1 */
    const char *path;
};
enum mil_status lines_open(struct line_reader *r, const char *path, struct mil_error *err);
enum mil_status lines_next(struct line_reader *r, const char **line, size_t *n,
                           struct mil_error *err);
void lines_close(struct line_reader *r);

struct atomic_file {
    int fd;
    char path[PATH_CAP], tmp[PATH_CAP];
    uint64_t written;
};
enum mil_status atomic_open(struct atomic_file *a, const char *path, struct mil_error *err);
enum mil_status atomic_write(struct atomic_file *a, const void *bytes, size_t n,
                             struct mil_error *err);
/* fsync, rename into place, fsync the directory. After failure the temporary file is gone. */
enum mil_status atomic_commit(struct atomic_file *a, struct mil_error *err);
/* Safe on zeroed, committed and failed objects. */
void atomic_abort(struct atomic_file *a);
enum mil_status file_write(const char *path, const void *bytes, size_t n, struct mil_error *err);

/* A directory built under a temporary name ("tmp-<name>-<pid>" beside it): write files below
 * stage.tmp, then commit.  An existing directory of the final name is replaced if `replace`, else
 * it is MIL_ACCESS; at every moment either the old or the new one can be found. */
struct stage {
    char path[PATH_CAP], tmp[PATH_CAP];
    bool replace;
};
enum mil_status stage_open(struct stage *s, const char *path, bool replace, struct mil_error *err);
enum mil_status stage_commit(struct stage *s, struct mil_error *err);
void stage_abort(struct stage *s);

/* Mapped bytes will be read here and there (on), or in runs again: with read-ahead, a few kilobytes
 * from each weight would bring in the whole file.  A hint; never fails. */
void file_scattered(const void *bytes, size_t n, bool on);

#endif
