/* SPDX-License-Identifier: Apache-2.0 */
/* stage.c - a directory, whole or absent.
 *
 *     build      tmp-NAME-PID/...        (only this name exists after a kill)
 *     commit     every file and directory below fsynced
 *                new name:      rename tmp -> NAME
 *                replacing:     exchange tmp <-> NAME in one step (renameat2), remove tmp;
 *                               where the file system cannot: NAME -> old, tmp -> NAME, remove old
 *                parent directory fsynced
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "io/file.h"
#include "io/file_sync.h"

#define MAX_TRIES 1000

/* The final path without trailing slashes; "." and ".." cannot be renamed. */
static enum mil_status clean_path(char out[PATH_CAP], const char *path, struct mil_error *err) {
    TRY(path_join(out, "", path, err));
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') out[--n] = 0;
    const char *base = path_base(out);
    if (!*base || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        return error_set(err, MIL_USAGE, "'%s': name the output directory itself, such as ./out",
                         path);
    return MIL_OK;
}

static enum mil_status check_target(const struct stage *s, struct mil_error *err) {
    struct stat info;
    if (lstat(s->path, &info) != 0)
        return errno == ENOENT ? MIL_OK : error_errno(err, errno, "%s: cannot look at", s->path);
    if (!path_is_dir(s->path))
        return error_set(err, MIL_ACCESS, "%s: exists and is not a directory", s->path);
    if (!s->replace)
        return error_set(err, MIL_ACCESS, "%s: exists already; remove it or choose another name",
                         s->path);
    return MIL_OK;
}

static enum mil_status make_parent(const char *path, struct mil_error *err) {
    char parent[PATH_CAP];
    size_t n = (size_t)(path_base(path) - path);
    memcpy(parent, path, n);
    parent[n] = 0;
    return n ? dir_make(parent, err) : MIL_OK;
}

static enum mil_status open_tmp(struct stage *s, struct mil_error *err) {
    for (int attempt = 0; attempt < MAX_TRIES; attempt++) {
        TRY(tmp_name(s->tmp, s->path, attempt, err));
        if (mkdir(s->tmp, 0777) == 0) return MIL_OK;
        if (errno != EEXIST) break;
    }
    return error_errno(err, errno, "%s: cannot create the directory", s->tmp);
}

static enum mil_status prepare(struct stage *s, const char *path, struct mil_error *err) {
    TRY(clean_path(s->path, path, err));
    TRY(check_target(s, err));
    TRY(make_parent(s->path, err));
    return open_tmp(s, err);
}

enum mil_status stage_open(struct stage *s, const char *path, bool replace, struct mil_error *err) {
    memset(s, 0, sizeof *s);
    s->replace = replace;
    enum mil_status st = prepare(s, path, err);
    if (st != MIL_OK) memset(s, 0, sizeof *s);
    return st;
}

static int sync_tree(int fd);

/* fsync one entry of the directory open as fd.  0, or an errno. */
static int sync_entry(int fd, const char *name) {
    struct stat s;
    int child = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), e = 0;
    if (child < 0) return errno == ELOOP ? 0 : errno; /* a symbolic link has no data of its own */
    if (fstat(child, &s) != 0)
        e = errno;
    else if (S_ISDIR(s.st_mode))
        return sync_tree(child);
    else
        e = sync_fd(child);
    close(child);
    return e;
}

/* fsync the directory open as fd (which this closes) and everything below it.  0, or an errno.
 * The children come first: a directory entry is durable once the directory is. */
static int sync_tree(int fd) {
    int copy = dup(fd), e = 0;
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        e = errno;
        if (copy >= 0) close(copy);
    }
    struct dirent *entry;
    while (dir && !e && (errno = 0, (entry = readdir(dir)))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        e = sync_entry(fd, entry->d_name);
    }
    if (dir && !e) e = errno; /* of readdir */
    if (dir) closedir(dir);
    if (!e) e = sync_fd(fd);
    close(fd);
    return e;
}

/* Without an atomic exchange there is a moment in which the old directory has another name. */
static int replace_by_renames(struct stage *s) {
    char old[PATH_CAP];
    if (snprintf(old, sizeof old, "%s-old", s->tmp) >= PATH_CAP) return ENAMETOOLONG;
    if (rename(s->path, old) != 0) return errno;
    if (rename(s->tmp, s->path) != 0) {
        int e = errno;
        if (rename(old, s->path) != 0) log_warning("%s: the old directory is now %s", s->path, old);
        return e;
    }
    memcpy(s->tmp, old, sizeof old);
    return 0;
}

/* Put s->tmp in place.  Afterwards s->tmp names what was replaced, or is empty.  0 or an errno. */
static int place(struct stage *s) {
    if (renameat2(AT_FDCWD, s->tmp, AT_FDCWD, s->path, RENAME_NOREPLACE) == 0) {
        s->tmp[0] = 0;
        return 0;
    }
    bool unsupported = errno == EINVAL || errno == ENOSYS;
    if (errno != EEXIST && !unsupported) return errno;
    if (unsupported && !path_exists(s->path)) {
        if (rename(s->tmp, s->path) != 0) return errno;
        s->tmp[0] = 0;
        return 0;
    }
    if (!s->replace) return EEXIST;
    if (renameat2(AT_FDCWD, s->tmp, AT_FDCWD, s->path, RENAME_EXCHANGE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return errno;
    return replace_by_renames(s);
}

enum mil_status stage_commit(struct stage *s, struct mil_error *err) {
    REQUIRE(s->tmp[0]);
    enum mil_status st = MIL_OK;
    int fd = open(s->tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int e = fd < 0 ? errno : sync_tree(fd);
    if (!e) e = place(s);
    if (e) {
        st = error_errno(err, e, "%s: cannot write the directory", s->path);
        stage_abort(s);
        return st;
    }
    e = sync_parent(s->path);
    if (e) st = error_errno(err, e, "%s: cannot sync the parent directory", s->path);
    struct mil_error ignored;
    if (s->tmp[0] && dir_remove(s->tmp, &ignored) != MIL_OK)
        log_warning("%s: what was replaced could not be removed: %s", s->path, ignored.message);
    memset(s, 0, sizeof *s);
    return st;
}

void stage_abort(struct stage *s) {
    if (s->tmp[0]) dir_remove(s->tmp, NULL);
    memset(s, 0, sizeof *s);
}
