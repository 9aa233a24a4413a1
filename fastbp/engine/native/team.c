#ifdef __linux__
#define _GNU_SOURCE /* sched_getcpu, cpu_set_t */
#include <sched.h>
#endif
#include "team.h"
#include "kernels.h"
#include <stdlib.h>

#ifdef _WIN32
#include <windows.h>
#include <process.h>
typedef HANDLE thread_t;
typedef SRWLOCK lock_t;
typedef CONDITION_VARIABLE signal_t;
#define lock_init(l) InitializeSRWLock(l)
#define lock_take(l) AcquireSRWLockExclusive(l)
#define lock_give(l) ReleaseSRWLockExclusive(l)
#define lock_end(l) ((void)0)
#define signal_init(s) InitializeConditionVariable(s)
#define signal_wait(s, l) SleepConditionVariableSRW(s, l, INFINITE, 0)
#define signal_all(s) WakeAllConditionVariable(s)
#define signal_end(s) ((void)0)
#define WORKER(name) static unsigned __stdcall name(void *p)
#define WORKER_DONE 0
#else
#include <pthread.h>
#include <signal.h>
typedef pthread_t thread_t;
typedef pthread_mutex_t lock_t;
typedef pthread_cond_t signal_t;
#define lock_init(l) pthread_mutex_init(l, NULL)
#define lock_take(l) pthread_mutex_lock(l)
#define lock_give(l) pthread_mutex_unlock(l)
#define lock_end(l) pthread_mutex_destroy(l)
#define signal_init(s) pthread_cond_init(s, NULL)
#define signal_wait(s, l) pthread_cond_wait(s, l)
#define signal_all(s) pthread_cond_broadcast(s)
#define signal_end(s) pthread_cond_destroy(s)
#define WORKER(name) static void *name(void *p)
#define WORKER_DONE NULL
#endif

/* The compiler's atomics, the same in gcc, clang and clang-cl. */
#define get(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define set(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define add(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)

/* Long enough that members of one step meet without a system call, short enough that two fits on
 * the same cores do not burn each other's time (measured November 2026: pure spinning made two
 * fits 4 to 7 times slower, spinning 30 us cost 3 %). */
#define SPIN_NS 30000

/* A number that only grows, and waiting for it to change: spin by the clock, then sleep. */
typedef struct {
    unsigned value;
    int sleepers;
    lock_t lock;
    signal_t changed;
} turnstile;

typedef struct {
    fb_team *team;
    int member;
} seat;

struct fb_team {
    int size;
    turnstile start;  /* one turn per run */
    char pad0[64];
    turnstile passed; /* one turn per barrier */
    char pad1[64];
    int arrived;
    char pad2[64];
    int given, published; /* member 0's flag, and what the last barrier made of it */
    int home;             /* the processor on which member 0 was seen last, or -1 */
    int n_members, leaving;
    fb_task task;
    void *argument;
    seat *seats;
    thread_t *threads;
};

static inline void rest(void)
{
#if defined(__x86_64__) || defined(_M_X64)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The scheduler may wake a worker on the core of the member that woke it. There the two take turns
 * at running and sleeping for good, because a core on which only one runs at a time looks well
 * balanced: default fits on digits took 105 to 114 ms before, 91 to 99 after (November 2026, two runs
 * with an idle OpenBLAS thread still spinning; without it 71 to 80).
 * So a worker that finds itself on member 0's core moves to another, and is then as free as before. */
static int processor(void)
{
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

static void keep_apart(const fb_team *team)
{
#ifdef __linux__
    int home = get(&team->home);
    cpu_set_t allowed, elsewhere;
    if (home < 0 || processor() != home || sched_getaffinity(0, sizeof(allowed), &allowed))
        return;
    elsewhere = allowed;
    CPU_CLR(home, &elsewhere);
    if (CPU_COUNT(&elsewhere) == 0)
        return;
    sched_setaffinity(0, sizeof(elsewhere), &elsewhere);
    sched_setaffinity(0, sizeof(allowed), &allowed);
#else
    (void)team;
#endif
}

/* Returns the value that is no longer `seen`. slept: OUT, set if it took longer than a spin. */
static unsigned wait_turn(turnstile *t, unsigned seen, int *slept)
{
    int64_t until = 0;
    unsigned value;
    for (int spins = 0;; spins++) {
        if ((value = get(&t->value)) != seen)
            return value;
        rest();
        if ((spins & 31) == 31) {
            int64_t now = fb_clock_ns();
            if (until == 0)
                until = now + SPIN_NS;
            else if (now > until)
                break;
        }
    }
    *slept = 1;
    lock_take(&t->lock);
    add(&t->sleepers, 1);
    while ((value = get(&t->value)) == seen)
        signal_wait(&t->changed, &t->lock);
    add(&t->sleepers, -1);
    lock_give(&t->lock);
    return value;
}

/* A sleeper counts itself before it looks at the value a last time, the turner turns before it
 * looks at the count: one of them sees the other. */
static void turn(turnstile *t, unsigned value)
{
    set(&t->value, value);
    if (get(&t->sleepers)) {
        lock_take(&t->lock);
        signal_all(&t->changed);
        lock_give(&t->lock);
    }
}

int fb_team_barrier(fb_team *team, int member, int flag)
{
    unsigned seen = get(&team->passed.value);
    int slept = 0;
    if (member == 0) {
        set(&team->given, flag);
        set(&team->home, processor());
    }
    if (add(&team->arrived, 1) == get(&team->n_members)) {
        set(&team->arrived, 0);
        set(&team->published, get(&team->given));
        turn(&team->passed, seen + 1);
    } else
        wait_turn(&team->passed, seen, &slept);
    if (slept && member > 0)
        keep_apart(team);
    return get(&team->published);
}

/* The value of `start` holds the run's number and its members, read in one piece: a worker that was
 * left out of a run may wake late, in the middle of the next. */
#define MEMBERS(value) ((int)((value) & 255))

WORKER(work)
{
    seat *s = p;
    fb_team *team = s->team;
    unsigned seen = 0;
    for (int slept;;) {
        seen = wait_turn(&team->start, seen, &slept);
        if (get(&team->leaving))
            return WORKER_DONE;
        if (s->member < MEMBERS(seen)) {
            keep_apart(team);
            team->task(team->argument, s->member, MEMBERS(seen));
            fb_team_barrier(team, s->member, 0);
        }
    }
}

void fb_team_run(fb_team *team, fb_task task, void *argument, int n_members)
{
    team->task = task;
    team->argument = argument;
    set(&team->n_members, n_members);
    set(&team->home, processor());
    turn(&team->start, ((team->start.value >> 8) + 1) << 8 | (unsigned)n_members);
    task(argument, 0, n_members);
    fb_team_barrier(team, 0, 0);
}

int fb_team_size(const fb_team *team) { return team->size; }

static int start_thread(thread_t *thread, seat *s)
{
#ifdef _WIN32
    *thread = (HANDLE)_beginthreadex(NULL, 0, work, s, 0, NULL);
    return *thread != 0;
#else
    /* Signals are for the thread that runs Python. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, NULL, work, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !failed;
#endif
}

static void open_turnstile(turnstile *t)
{
    lock_init(&t->lock);
    signal_init(&t->changed);
}

fb_team *fb_team_start(int size)
{
    size = size > FB_TEAM_MAX ? FB_TEAM_MAX : size;
    fb_team *team = fb_allocate(sizeof(fb_team));
    if (!team)
        return NULL;
    open_turnstile(&team->start);
    open_turnstile(&team->passed);
    team->size = 1;
    team->seats = fb_allocate((size_t)size * sizeof(seat));
    team->threads = fb_allocate((size_t)size * sizeof(thread_t));
    if (!team->seats || !team->threads) {
        fb_team_stop(team);
        return NULL;
    }
    for (int member = 1; member < size; member++) {
        team->seats[member] = (seat){team, member};
        if (!start_thread(&team->threads[member], &team->seats[member])) {
            fb_team_stop(team);
            return NULL;
        }
        team->size = member + 1;
    }
    return team;
}

static void free_team(fb_team *team)
{
    fb_release(team->seats);
    fb_release(team->threads);
    fb_release(team);
}

void fb_team_stop(fb_team *team)
{
    set(&team->leaving, 1);
    turn(&team->start, ((team->start.value >> 8) + 1) << 8);
    for (int member = 1; member < team->size; member++) {
#ifdef _WIN32
        WaitForSingleObject(team->threads[member], INFINITE);
        CloseHandle(team->threads[member]);
#else
        pthread_join(team->threads[member], NULL);
#endif
    }
    lock_end(&team->start.lock);
    lock_end(&team->passed.lock);
    signal_end(&team->start.changed);
    signal_end(&team->passed.changed);
    free_team(team);
}

void fb_team_forget(fb_team *team) { free_team(team); }

/* A thread of a search comes back with its next fit after some milliseconds of Python. A fit beside it
 * that took the core meanwhile would sit at its barriers as long as Python has the core of its worker:
 * a search of 36 fits on two threads took 1.4 times as long so as with neighbours counted for 20 ms more
 * (November 2026; median of 7 pairs of processes in turns). */
#define LINGER_NS 20000000

static int running_fits = 0, fits_at_once = 0;
static int64_t lingers_until = 0;

int fb_running_fits(int change)
{
    int n = add(&running_fits, change), before = n - change;
    if (change < 0 && n > 0) {
        set(&fits_at_once, before);
        set(&lingers_until, fb_clock_ns() + LINGER_NS);
    }
    int64_t end = get(&lingers_until);
    if (end == 0 || fb_clock_ns() >= end)
        return n;
    before = get(&fits_at_once);
    return n < before ? before : n;
}

void fb_reset_running_fits(void)
{
    set(&running_fits, 0);
    set(&lingers_until, 0);
}
