/* Counts what a process does to the files below one folder, and stops it at one of these
 * operations: killed there, half of a write done, or failed with an error of the disk.
 *
 * Preloaded before the C library; `shim_arm` starts the count. Linux alone. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static size_t root_length;
static long stop_at;
static int stop_error, stop_stays, log_fd = -1;
static atomic_long count;

/* What takes room on a disk: only that fails for as long as the disk is full. */
enum kind { TAKES_ROOM, TAKES_NONE };

/* Count below `folder`, writing each operation to `log_file`. At operation `at` (from 1, 0 never)
 * kill the process, or if `error` is not 0 fail with it; if `stays`, all later ones that take room
 * fail as well. */
void shim_arm(const char *folder, const char *log_file, long at, int error, int stays)
{
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    root_length = strlen(folder);
    stop_at = at, stop_error = error, stop_stays = stays, count = 0;
    memcpy(root, folder, root_length + 1);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void name_of(int descriptor, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static void join(int folder, const char *name, char *path)
{
    char above[PATH_MAX] = "";
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    if (folder != AT_FDCWD)
        name_of(folder, above);
    else if (!getcwd(above, sizeof above))
        above[0] = 0;
    strncat(above, "/", PATH_MAX - 1 - strlen(above));
    strncat(above, name, PATH_MAX - 1 - strlen(above));
    strcpy(path, above);
}

/* Count an operation on a path. Returns 1 where the process is to be killed, -1 where it fails. */
static int counted(const char *operation, const char *path, enum kind kind)
{
    char line[PATH_MAX + 64];
    if (!root_length || strncmp(path, root, root_length) || (path[root_length] && path[root_length] != '/'))
        return 0;
    const char *name = path[root_length] ? path + root_length + 1 : ".";
    long number = atomic_fetch_add(&count, 1) + 1;
    int length = snprintf(line, sizeof line, "%s %s\n", operation, name);
    syscall(SYS_write, log_fd, line, length);
    if (!stop_at || number < stop_at || (number > stop_at && (!stop_stays || kind == TAKES_NONE)))
        return 0;
    if (!stop_error)
        return 1;
    errno = stop_error;
    return -1;
}

static int stopped(const char *operation, const char *path, enum kind kind)
{
    int answer = counted(operation, path, kind);
    if (answer > 0)
        die();
    return answer;
}

static int stopped_at(const char *operation, int folder, const char *name, enum kind kind)
{
    char path[PATH_MAX];
    if (!root_length)
        return 0;
    join(folder, name, path);
    return stopped(operation, path, kind);
}

static int stopped_on(const char *operation, int descriptor, enum kind kind)
{
    char path[PATH_MAX];
    if (!root_length)
        return 0;
    name_of(descriptor, path);
    return stopped(operation, path, kind);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int opened(int folder, const char *name, int flags, mode_t mode)
{
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (writes && stopped_at("open", folder, name, TAKES_ROOM))
        return -1;
    return (int)syscall(SYS_openat, folder, name, flags, mode);
}

static mode_t mode_of(int flags, va_list more)
{
    return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode_t mode = mode_of(flags, more);                                                        \
        va_end(more);                                                                              \
        return opened(AT_FDCWD, path, flags, mode);                                                \
    }
#define OPENAT(name)                                                                               \
    int name(int folder, const char *path, int flags, ...)                                         \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode_t mode = mode_of(flags, more);                                                        \
        va_end(more);                                                                              \
        return opened(folder, path, flags, mode);                                                  \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void *data, size_t bytes)
{
    char path[PATH_MAX];
    if (root_length) {
        name_of(descriptor, path);
        int answer = counted("write", path, TAKES_ROOM);
        if (answer < 0)
            return -1;
        if (answer > 0) {
            syscall(SYS_write, descriptor, data, bytes / 2);
            die();
        }
    }
    return syscall(SYS_write, descriptor, data, bytes);
}

ssize_t writev(int descriptor, const struct iovec *parts, int number)
{
    if (stopped_on("write", descriptor, TAKES_ROOM))
        return -1;
    return syscall(SYS_writev, descriptor, parts, number);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t bytes)
{
    if (stopped_on("write", to, TAKES_ROOM))
        return -1;
    return syscall(SYS_sendfile, to, from, offset, bytes);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t bytes)
{
    return sendfile64(to, from, (off64_t *)offset, bytes);
}

ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *place, size_t bytes, unsigned flags)
{
    if (stopped_on("write", to, TAKES_ROOM))
        return -1;
    return syscall(SYS_copy_file_range, from, start, to, place, bytes, flags);
}

#define ON_DESCRIPTOR(name, operation, kind)                                                       \
    int name(int descriptor)                                                                       \
    {                                                                                              \
        return stopped_on(operation, descriptor, kind) ? -1 : REAL(name)(descriptor);              \
    }
ON_DESCRIPTOR(fsync, "sync", TAKES_NONE)
ON_DESCRIPTOR(fdatasync, "sync", TAKES_NONE)

#define TRUNCATES(name)                                                                            \
    int name(int descriptor, off64_t bytes)                                                        \
    {                                                                                              \
        if (stopped_on("truncate", descriptor, TAKES_NONE))                                        \
            return -1;                                                                             \
        return (int)syscall(SYS_ftruncate, descriptor, bytes);                                     \
    }
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)

#define ON_PATH(name, operation, kind)                                                             \
    int name(const char *path)                                                                     \
    {                                                                                              \
        return stopped_at(operation, AT_FDCWD, path, kind) ? -1 : REAL(name)(path);                \
    }
ON_PATH(unlink, "unlink", TAKES_NONE)
ON_PATH(rmdir, "rmdir", TAKES_NONE)

int unlinkat(int folder, const char *path, int flags)
{
    const char *operation = flags & AT_REMOVEDIR ? "rmdir" : "unlink";
    return stopped_at(operation, folder, path, TAKES_NONE) ? -1 : REAL(unlinkat)(folder, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
    return stopped_at("mkdir", AT_FDCWD, path, TAKES_ROOM) ? -1 : REAL(mkdir)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    return stopped_at("mkdir", folder, path, TAKES_ROOM) ? -1 : REAL(mkdirat)(folder, path, mode);
}

int rename(const char *old, const char *path)
{
    return stopped_at("rename", AT_FDCWD, path, TAKES_NONE) ? -1 : REAL(rename)(old, path);
}

int renameat(int from, const char *old, int folder, const char *path)
{
    if (stopped_at("rename", folder, path, TAKES_NONE))
        return -1;
    return REAL(renameat)(from, old, folder, path);
}
