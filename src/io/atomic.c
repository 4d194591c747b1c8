/* SPDX-License-Identifier: Apache-2.0 */
/* atomic.c - one file, whole or absent: written as "tmp-<name>-<pid>" beside its place, fsynced,
 * renamed, and the directory fsynced, so that the name survives a power cut too.
 *
 * A target that exists and is no regular file (/dev/null, /dev/stdout, a FIFO) is written in place:
 * renaming over it would destroy a device node.  A symbolic link is replaced, not followed: in a
 * download cache, links point at blobs that others share. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/file_sync.h"

/* Longest part of a name kept in the temporary one: NAME_MAX is 255 on every system we know. */
#define NAME_KEPT 200
#define MAX_TRIES 1000

enum mil_status tmp_name(char out[PATH_CAP], const char *path, int attempt, struct mil_error *err) {
    const char *base = path_base(path);
    int dir = (int)(base - path), n;
    n = snprintf(out, PATH_CAP, "%.*stmp-%.*s-%ld", dir, path, NAME_KEPT, base, (long)getpid());
    if (n > 0 && n < PATH_CAP && attempt)
        n += snprintf(out + n, PATH_CAP - (size_t)n, "-%d", attempt);
    if (n < 0 || n >= PATH_CAP)
        return error_set(err, MIL_USAGE, "%.100s...: path longer than %d bytes", path,
                         PATH_CAP - 1);
    return MIL_OK;
}

/* Errno, or 0.  File systems that cannot sync a descriptor say EINVAL or ENOTSUP: then there is
 * nothing more to do. */
int sync_fd(int fd) {
    while (fsync(fd) != 0) {
        if (errno == EINTR) continue;
        return errno == EINVAL || errno == ENOTSUP || errno == EROFS ? 0 : errno;
    }
    return 0;
}

int sync_parent(const char *path) {
    char dir[PATH_CAP];
    size_t n = (size_t)(path_base(path) - path);
    if (n >= sizeof dir) return ENAMETOOLONG;
    memcpy(dir, n ? path : ".", n ? n : 1);
    dir[n ? n : 1] = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? 0 : errno; /* may be writable without being readable */
    int e = sync_fd(fd);
    close(fd);
    return e;
}

/* Create the temporary file; names left behind by a killed process of the same id are passed over.
 */
static enum mil_status open_tmp(struct atomic_file *a, struct mil_error *err) {
    for (int attempt = 0; attempt < MAX_TRIES; attempt++) {
        TRY(tmp_name(a->tmp, a->path, attempt, err));
        a->fd = open(a->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (a->fd >= 0) return MIL_OK;
        if (errno != EEXIST) break;
    }
    return error_errno(err, errno, "%s: cannot create", a->path);
}

static enum mil_status open_target(struct atomic_file *a, struct mil_error *err) {
    struct stat s;
    bool there = stat(a->path, &s) == 0;
    if (there && S_ISDIR(s.st_mode))
        return error_set(err, MIL_ACCESS, "%s: is a directory, not a file", a->path);
    if (!there || S_ISREG(s.st_mode)) {
        if (there && access(a->path, W_OK) != 0)
            return error_errno(err, errno, "%s: cannot write", a->path);
        return open_tmp(a, err);
    }
    a->fd = open(a->path, O_WRONLY | O_CLOEXEC);
    if (a->fd < 0) return error_errno(err, errno, "%s: cannot write", a->path);
    return MIL_OK;
}

enum mil_status atomic_open(struct atomic_file *a, const char *path, struct mil_error *err) {
    memset(a, 0, sizeof *a);
    a->fd = -1;
    if (!*path) return error_set(err, MIL_USAGE, "the name of a file to write is empty");
    TRY(path_join(a->path, "", path, err));
    enum mil_status st = open_target(a, err);
    if (st != MIL_OK) {
        memset(a, 0, sizeof *a);
        a->fd = -1;
    }
    return st;
}

enum mil_status atomic_write(struct atomic_file *a, const void *bytes, size_t n,
                             struct mil_error *err) {
    REQUIRE(a->path[0] && a->fd >= 0);
    const char *p = bytes;
    while (n > 0) {
        ssize_t put = write(a->fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0)
            return error_errno(err, errno, "%s: cannot write after %llu bytes", a->path,
                               (unsigned long long)a->written);
        p += put;
        n -= (size_t)put;
        a->written += (uint64_t)put;
    }
    return MIL_OK;
}

enum mil_status atomic_commit(struct atomic_file *a, struct mil_error *err) {
    REQUIRE(a->path[0] && a->fd >= 0);
    int e = sync_fd(a->fd);
    if (close(a->fd) != 0 && !e) e = errno; /* NFS reports a full disk only here */
    a->fd = -1;
    if (!e && a->tmp[0] && rename(a->tmp, a->path) != 0) e = errno;
    if (e) {
        enum mil_status st = error_errno(err, e, "%s: cannot write", a->path);
        atomic_abort(a);
        return st;
    }
    if (a->tmp[0]) e = sync_parent(a->path);
    a->tmp[0] = 0;
    enum mil_status st = e ? error_errno(err, e, "%s: cannot sync the directory", a->path) : MIL_OK;
    atomic_abort(a);
    return st;
}

void atomic_abort(struct atomic_file *a) {
    if (!a->path[0]) return; /* zeroed: fd 0 is not ours */
    if (a->fd >= 0) close(a->fd);
    if (a->tmp[0]) unlink(a->tmp);
    a->path[0] = a->tmp[0] = 0;
    a->fd = -1;
}

enum mil_status file_write(const char *path, const void *bytes, size_t n, struct mil_error *err) {
    struct atomic_file a;
    TRY(atomic_open(&a, path, err));
    enum mil_status st = atomic_write(&a, bytes, n, err);
    if (st == MIL_OK) st = atomic_commit(&a, err);
    atomic_abort(&a);
    return st;
}
