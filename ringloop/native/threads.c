/*
 * Native threads and the signal that interrupts them: see threads.h. Never anything of Python's.
 *
 * The signal's number is reserved with the first thread, for the process and for good. Programs count theirs
 * from SIGRTMIN up, so it comes from the other end; but SIGRTMAX itself is valgrind's, and OpenJDK, which may
 * live in the same process, interrupts its threads by SIGRTMAX - 2. So the first that is looked at is
 * SIGRTMAX - 5, then the ones below, and the first with no handler is taken.
 */
#define _GNU_SOURCE
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "syscalls.h"

/* Works keep little on the stack. Only pages that were touched cost memory, unless the process locks all. */
enum { STACK_BYTES = 256 << 10 };

/* 0: not reserved yet; -1: every signal has an owner, and nothing can be interrupted. */
static int reserved_signal;

static void ignore_signal(int number)
{
    (void)number;
}

/* Without SA_RESTART: that the system call ends is all that the signal is for. */
static bool install_handler(int number)
{
    struct sigaction action = {.sa_handler = ignore_signal};
    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, NULL) == 0;
}

static bool has_handler(int number, void (*handler)(int number))
{
    struct sigaction action;
    return sigaction(number, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
           action.sa_handler == handler;
}

/*
 * The number, or -1. Without a lock, which a forked child might find taken: of two threads that reserve at
 * once the second finds the first one's handler, and takes the same number. SIG_IGN is a decision, too.
 */
static int reserve_signal(void)
{
    int number = __atomic_load_n(&reserved_signal, __ATOMIC_RELAXED);
    if (number != 0)
        return number;
    number = SIGRTMAX - 5;
    while (number >= SIGRTMIN && !has_handler(number, ignore_signal) &&
           !(has_handler(number, SIG_DFL) && install_handler(number)))
        number--;
    if (number < SIGRTMIN)
        number = -1;
    __atomic_store_n(&reserved_signal, number, __ATOMIC_RELAXED);
    return number;
}

void rl_thread_interrupt(int thread)
{
    int number = reserve_signal();
    if (number < 0)
        return;
    /* Programs put all signals back to what they were: it would end the process then, or be lost. A handler
       that was put in our handler's place interrupts as well. */
    if (has_handler(number, SIG_DFL) || has_handler(number, SIG_IGN))
        install_handler(number);
    rl_sys_tgkill(getpid(), thread, number);
}

void rl_thread_begin(const char *name)
{
    /* Signals to the process are for the loop's threads. Those of the thread's own faults stay: faulthandler
       and sanitizers would see nothing of a crash. */
    static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof FAULTS / sizeof FAULTS[0]; i++)
        sigdelset(&blocked, FAULTS[i]);
    if (reserve_signal() > 0)
        sigdelset(&blocked, reserve_signal());
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    prctl(PR_SET_NAME, name);
}

int rl_thread_start(void *(*body)(void *argument), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;

    reserve_signal();
    int error = pthread_attr_init(&attributes);
    if (error != 0)
        return -error;
    /* Until the thread has set its own mask. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (error == 0)
        error = pthread_create(&thread, &attributes, body, argument);
    /* The size is above PTHREAD_STACK_MIN, but glibc takes the space for thread-local variables from it, of
       which a program may have any number: such a one gets stacks of the usual size. */
    if (error == EINVAL)
        error = pthread_create(&thread, NULL, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}

void rl_thread_sleep(uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    rl_sys_futex_wait(word, expected, timeout_ns == RL_THREAD_NO_LIMIT ? NULL : &timeout);
}

int64_t rl_thread_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
