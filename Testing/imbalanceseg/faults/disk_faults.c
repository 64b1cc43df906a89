/* A disk that fails on demand, for the process that loads this before its C library (LD_PRELOAD).

   faults_arm(KIND, N): the Nth change of a file from now on kills the process (KIND 1), in the
   middle of the data where data are written, or finds the disk full, as all later ones do (KIND 2).
   KIND 0 only counts. faults_seen(): how many changes there were. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, FULL, UNARMED };

static atomic_long seen;
static long first_fault;
static int kind = UNARMED;

void faults_arm(int new_kind, long n) {
    seen = 0;
    first_fault = n;
    kind = new_kind;
}

long faults_seen(void) { return seen; }

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

static void die(void) { kill(getpid(), SIGKILL); pause(); }

/* 0: go on; 1: the first change that fails; 2: a later one. */
static int fails(void) {
    if (kind == UNARMED) return 0;
    long n = atomic_fetch_add(&seen, 1) + 1;
    if (kind == COUNT || n < first_fault) return 0;
    if (kind == KILL) return n == first_fault;
    return n == first_fault ? 1 : 2;
}

static int is_file(int fd) {
    struct stat about;
    return kind != UNARMED && fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

/* A full disk takes what still fits. */
#define WRITES(result, name, parameters, whole, half, is_watched) \
    result name parameters { \
        REAL(name); \
        int how = (is_watched) ? fails() : 0; \
        if (!how) return whole; \
        if (kind == KILL) { (void)!half; die(); } \
        if (how == 1 && count > 1) return half; \
        errno = ENOSPC; \
        return -1; \
    }

WRITES(ssize_t, write, (int fd, const void *data, size_t count), real(fd, data, count),
       real(fd, data, count / 2), is_file(fd))
WRITES(ssize_t, pwrite, (int fd, const void *data, size_t count, off_t at),
       real(fd, data, count, at), real(fd, data, count / 2, at), is_file(fd))
WRITES(ssize_t, pwrite64, (int fd, const void *data, size_t count, off64_t at),
       real(fd, data, count, at), real(fd, data, count / 2, at), is_file(fd))
WRITES(ssize_t, writev, (int fd, const struct iovec *parts, int count), real(fd, parts, count),
       real(fd, parts, count / 2), is_file(fd))

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    REAL(fwrite);
    int how = is_file(fileno(stream)) ? fails() : 0;
    if (!how) return real(data, size, count, stream);
    size_t half = real(data, size, count / 2, stream);
    if (kind == KILL) { fflush(stream); die(); }
    errno = ENOSPC;
    return how == 1 ? half : 0;
}

#define CHANGES(name, parameters, arguments, fails_when_full) \
    int name parameters { \
        REAL(name); \
        int how = fails(); \
        if (how && kind == KILL) die(); \
        if (how && (fails_when_full)) { errno = ENOSPC; return -1; } \
        return real arguments; \
    }

CHANGES(rename, (const char *from, const char *to), (from, to), 0)
CHANGES(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), 0)
CHANGES(renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
        (a, from, b, to, flags), 0)
CHANGES(unlink, (const char *path), (path), 0)
CHANGES(unlinkat, (int at, const char *path, int flags), (at, path, flags), 0)
CHANGES(rmdir, (const char *path), (path), 0)
CHANGES(mkdir, (const char *path, mode_t mode), (path, mode), 1)
CHANGES(fsync, (int fd), (fd), 1)
CHANGES(fdatasync, (int fd), (fd), 1)
CHANGES(ftruncate, (int fd, off_t length), (fd, length), 1)
CHANGES(ftruncate64, (int fd, off64_t length), (fd, length), 1)

#define OPENS(name, parameters, path_only, at_mode) \
    int name parameters { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
        } \
        int how = flags & (O_CREAT | O_TRUNC) ? fails() : 0; \
        if (how && kind == KILL) die(); \
        if (how && flags & O_CREAT) { errno = ENOSPC; return -1; } \
        return at_mode; \
    }

OPENS(open, (const char *path, int flags, ...), path, real(path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), path, real(path, flags, mode))
OPENS(openat, (int at, const char *path, int flags, ...), path, real(at, path, flags, mode))
OPENS(openat64, (int at, const char *path, int flags, ...), path, real(at, path, flags, mode))

#define OPENS_STREAM(name) \
    FILE *name(const char *path, const char *how_opened) { \
        REAL(name); \
        int how = how_opened[0] == 'r' ? 0 : fails(); \
        if (how && kind == KILL) die(); \
        if (how) { errno = ENOSPC; return NULL; } \
        return real(path, how_opened); \
    }

OPENS_STREAM(fopen)
OPENS_STREAM(fopen64)
