/* Processes that are hard to find, and strangers that look like others, for the random afternoon.
 *
 * helper daemon [null|closed|keep]   forks twice into a session of its own; returns once it is there;
 *                                    starts another like it at each SIGUSR1
 * helper headless                    its main thread ends, another one goes on
 * helper tracer PID [FILE]           as daemon, perhaps out of its cgroup through FILE; traces PID once
 *                                    that is a sleep, and waits for nothing
 * helper escape FILE                 leaves its cgroup through FILE and has a child that is its
 *                                    parent's (CLONE_PARENT), in a session of its own
 * helper as [like=PID] [session] [terminal] -- PROGRAM ARG...
 *                                    PROGRAM, with the timer slack of PID and a limit of locks as
 *                                    another server would have set it
 * helper liken FROM TO               gives TO the timer slack and limit of locks of FROM
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(96);
}

static void rest(void) {
    for (;;)
        pause();
}

static void *goes_on(void *unused) {
    (void)unused;
    rest();
    return 0;
}

/* A daemon's child, in a session of its own and soon nobody's. */
static void start_another(int signal) {
    (void)signal;
    prctl(PR_SET_NAME, "starting");
    pid_t between = fork();
    if (between)
        waitpid(between, 0, 0);
    else {
        setsid();
        if (fork())
            _exit(0);
    }
    prctl(PR_SET_NAME, "daemon");
}

/* Returns in the daemon, true, and in its parent once the daemon is settled, false. */
static int become_daemon(const char *descriptors) {
    int settled[2];
    if (pipe2(settled, O_CLOEXEC))
        die("pipe");
    pid_t between = fork();
    if (between < 0)
        die("fork");
    if (between) {
        char byte;
        close(settled[1]);
        waitpid(between, 0, 0);
        if (read(settled[0], &byte, 1) != 1)
            exit(96);
        return 0;
    }
    setsid();
    pid_t daemon = fork();
    if (daemon)
        _exit(daemon < 0 ? 96 : 0);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) {
        if (!strcmp(descriptors, "null"))
            dup2(null, fd);
        else if (!strcmp(descriptors, "closed"))
            close(fd);
    }
    if (null > 2)
        close(null);
    if (write(settled[1], "x", 1) != 1)
        _exit(96);
    close(settled[1]);
    return 1;
}

/* The number in a file below /proc/PID; -1 without it. */
static long long number(int pid, const char *name) {
    char path[64];
    long long value = -1;
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%lld", &value) != 1)
            value = -1;
        fclose(file);
    }
    return value;
}

static int is_sleep(int pid) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        exit(96);
    if (!fgets(name, sizeof name, file))
        name[0] = 0;
    fclose(file);
    return !strcmp(name, "sleep\n");
}

/* Without the right to it, it only looks a little less alike. */
static void liken(int from, int to) {
    long long slack = number(from, "timerslack_ns");
    if (slack > 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/timerslack_ns", to);
        FILE *file = fopen(path, "w");
        if (file) {
            fprintf(file, "%lld", slack);
            fclose(file);
        }
    }
    struct rlimit locks;
    if (!prlimit(from, RLIMIT_LOCKS, 0, &locks))
        prlimit(to, RLIMIT_LOCKS, &locks, 0);
}

static void leave_group(const char *file) {
    int procs = open(file, O_WRONLY | O_CLOEXEC);
    if (procs < 0 || write(procs, "0", 1) != 1)
        die(file);
    close(procs);
}

static void escape(const char *file) {
    leave_group(file);
    long child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (child < 0)
        die("clone");
    if (!child) {
        setsid();
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        prctl(PR_SET_NAME, "escaped");
    }
    rest();
}

static void as(int count, char **words) {
    int at = 0;
    for (; at < count && strcmp(words[at], "--"); at++) {
        if (!strncmp(words[at], "like=", 5)) {
            int from = atoi(words[at] + 5);
            struct rlimit locks;
            if (!prlimit(from, RLIMIT_LOCKS, 0, &locks)) {
                if (locks.rlim_cur != RLIM_INFINITY)
                    locks.rlim_cur ^= 1ull << 40;
                prlimit(0, RLIMIT_LOCKS, &locks, 0);
            }
            long long slack = number(from, "timerslack_ns");
            if (slack > 0)
                prctl(PR_SET_TIMERSLACK, slack);
        } else if (!strcmp(words[at], "session") && setsid() < 0)
            die("setsid");
        else if (!strcmp(words[at], "terminal") && ioctl(0, TIOCSCTTY, 0))
            die("TIOCSCTTY");
    }
    if (at + 1 >= count)
        exit(96);
    execvp(words[at + 1], words + at + 1);
    die(words[at + 1]);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    const char *more = count > 2 ? words[2] : "";
    if (!strcmp(what, "daemon")) {
        if (become_daemon(more)) {
            signal(SIGUSR1, start_another);
            prctl(PR_SET_NAME, "daemon");
            rest();
        }
    } else if (!strcmp(what, "headless")) {
        pthread_t thread;
        prctl(PR_SET_NAME, "headless");
        if (pthread_create(&thread, 0, goes_on, 0))
            die("pthread_create");
        syscall(SYS_exit, 0);
    } else if (!strcmp(what, "tracer")) {
        if (become_daemon("null")) {
            int leader = atoi(more);
            if (count > 3)
                leave_group(words[3]);
            while (!is_sleep(leader))
                usleep(2000);
            if (ptrace(PTRACE_SEIZE, leader, 0, 0))
                die("PTRACE_SEIZE");
            prctl(PR_SET_NAME, "tracer");
            rest();
        }
    } else if (!strcmp(what, "escape"))
        escape(more);
    else if (!strcmp(what, "as"))
        as(count - 2, words + 2);
    else if (!strcmp(what, "liken") && count > 3)
        liken(atoi(more), atoi(words[3]));
    else
        return 96;
    return 0;
}
