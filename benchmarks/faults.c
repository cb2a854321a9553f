// Makes the N-th call on files below a folder fail; to be preloaded: cc -shared -fPIC faults.c -o faults.so -ldl
//
// Armed by attack_arm(), or from the start by the variables ATTACK_ROOT, ATTACK_CALL and ATTACK_ERROR (0: kill -9).
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[PATH_MAX];
static atomic_long seen, call;
static int error, lasting;
static unsigned char ours[1 << 16];  // file descriptors of files below the root
static char hit[PATH_MAX + 32];

// From the call of this number on that comes, one fails, or all do; 0: none does, calls are only counted.
void attack_arm(const char *folder, long number, int code, int all) {
  seen = 0;
  error = code, lasting = all;
  call = number;
  hit[0] = 0;
  snprintf(root, sizeof root, "%s", folder);
}
void attack_disarm(void) { root[0] = 0; }
long attack_seen(void) { return seen; }
const char *attack_hit(void) { return hit; }

__attribute__((constructor)) static void from_environment(void) {
  const char *folder = getenv("ATTACK_ROOT");
  if (folder) attack_arm(folder, atol(getenv("ATTACK_CALL")), atoi(getenv("ATTACK_ERROR")), 0);
}

static int below(const char *path) {
  size_t length = strlen(root);
  return length && path && !strncmp(path, root, length) && (!path[length] || path[length] == '/');
}

static int fails(const char *name, const char *path) {
  long number = ++seen;
  if (!call || (number != call && !(lasting && number > call))) return 0;
  if (number == call) snprintf(hit, sizeof hit, "%s %s", name, path);
  if (!error) kill(getpid(), SIGKILL);
  errno = error;
  return 1;
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define ON_PATH(name, path) if (below(path) && fails(#name, path)) return -1
#define ON_FILE(name, file) if (root[0] && file >= 0 && file < (1 << 16) && ours[file] && fails(#name, "")) return -1

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    ON_PATH(name, path); \
    int file = real(path, flags, mode); \
    if (file >= 0 && file < (1 << 16)) ours[file] = below(path); \
    return file; \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    REAL(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    ON_PATH(name, path); \
    int file = real(folder, path, flags, mode); \
    if (file >= 0 && file < (1 << 16)) ours[file] = below(path); \
    return file; \
  }
OPENAT(openat)
OPENAT(openat64)

DIR *opendir(const char *path) {
  REAL(opendir);
  return below(path) && fails("opendir", path) ? NULL : real(path);
}
ssize_t read(int file, void *to, size_t count) { REAL(read); ON_FILE(read, file); return real(file, to, count); }
ssize_t write(int file, const void *from, size_t count) {
  REAL(write);
  ON_FILE(write, file);
  return real(file, from, count);
}
int fsync(int file) { REAL(fsync); ON_FILE(fsync, file); return real(file); }
int close(int file) {
  REAL(close);
  int mine = root[0] && file >= 0 && file < (1 << 16) && ours[file];
  if (file >= 0 && file < (1 << 16)) ours[file] = 0;
  int done = real(file);  // it is closed even where that fails
  return mine && fails("close", "") ? -1 : done;
}
int rename(const char *from, const char *to) { REAL(rename); ON_PATH(rename, to); return real(from, to); }
int unlink(const char *path) { REAL(unlink); ON_PATH(unlink, path); return real(path); }
int rmdir(const char *path) { REAL(rmdir); ON_PATH(rmdir, path); return real(path); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); ON_PATH(mkdir, path); return real(path, mode); }
int link(const char *from, const char *to) { REAL(link); ON_PATH(link, to); return real(from, to); }
