/* SPDX-License-Identifier: Apache-2.0 */
/* output.c - see output.h.  A probe only: the writing itself is checked again where it happens. */
#include "api/output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

/* Cut the last component off a path in place; "" becomes ".", which always exists. */
static void to_parent(char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n > 0 && path[n - 1] != '/') n--;
    while (n > 1 && path[n - 1] == '/') n--;
    memcpy(path, n ? path : ".", n ? n : 1);
    path[n ? n : 1] = '\0';
}

enum mil_status output_probe(const char *path, struct mil_error *err) {
    char dir[PATH_CAP];
    TRY(path_join(dir, "", path, err));
    if (path_exists(path))
        return error_set(err, MIL_ACCESS, "%s: exists already; remove it or choose another name",
                         path);
    do to_parent(dir);
    while (!path_exists(dir));
    if (!path_is_dir(dir))
        return error_set(err, MIL_ACCESS, "%s: cannot be made, %s is not a directory", path, dir);
    if (access(dir, W_OK | X_OK) != 0)
        return error_errno(err, errno, "%s: cannot be made in %s", path, dir);
    return MIL_OK;
}
