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
#define put(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED) /* a later `set` makes it known */
#define add(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)

/* Long enough that workers of one step meet without a system call, short enough that two fits on
 * the same cores do not burn each other's time: pure spinning would make them several times slower.
 * */
#define SPIN_NS 30000

/* Where those sleep that wait for a number to change. */
typedef struct {
    int sleepers;
    lock_t lock;
    signal_t changed;
} bell;

/* One worker's side of the barrier, a cache line that only it writes (two, because some processors
 * have lines of 128 bytes or fetch them in pairs): the barriers it has come to, and what worker 0
 * said at the last two and where it was. So a barrier is one exchange of lines, not a chain of them
 * by way of a counter, a flag and a signal: each costs a message between cores. */
typedef struct {
    unsigned barriers;
    int flags[2];
    int processor; /* -1: not known */
    char pad[112];
} post;

typedef struct {
    fb_team *team;
    int worker;
} seat;

struct fb_team {
    int size, n_workers, leaving; /* set between two runs */
    fb_task task;
    void *argument;
    post *posts;
    seat *seats;
    thread_t *threads;
    char pad0[64];
    unsigned start; /* one turn per run */
    char pad1[64];
    bell at_start, at_barrier;
};

static inline void rest(void)
{
#if defined(__x86_64__) || defined(_M_X64)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The scheduler may wake a worker on the core of the worker that woke it. There the two take turns
 * at running and sleeping for good, because a core on which only one runs at a time looks well
 * balanced. So a worker that finds itself on worker 0's core moves to another, and is then as free
 * as before. */
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
    int home = get(&team->posts[0].processor);
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

/* Returns the value that is no longer `seen`: spin by the clock, then sleep. slept: OUT, set if it
 * took longer than a spin. */
static unsigned wait_turn(const unsigned *number, unsigned seen, bell *b, int *slept)
{
    int64_t until = 0;
    unsigned value;
    for (int spins = 0;; spins++) {
        if ((value = get(number)) != seen)
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
    lock_take(&b->lock);
    add(&b->sleepers, 1);
    while ((value = get(number)) == seen)
        signal_wait(&b->changed, &b->lock);
    add(&b->sleepers, -1);
    lock_give(&b->lock);
    return value;
}

/* A sleeper counts itself before it looks at the number a last time, the turner turns before it
 * looks at the count: one of them sees the other. */
static void turn(unsigned *number, unsigned value, bell *b)
{
    set(number, value);
    if (get(&b->sleepers)) {
        lock_take(&b->lock);
        signal_all(&b->changed);
        lock_give(&b->lock);
    }
}

/* Every worker waits for every other. One that has passed may already be at the next barrier, not
 * beyond it: hence two flags; and worker 0 may begin the next run: hence the count is read first. A
 * worker left out of that run may still read the flag of the last barrier, which nobody needs there. */
int fb_team_barrier(fb_team *team, int worker, int flag)
{
    post *own = &team->posts[worker];
    unsigned before = own->barriers;
    int slept = 0, n_workers = team->n_workers;
    if (worker == 0) {
        put(&own->flags[before & 1], flag);
        set(&own->processor, processor());
    }
    turn(&own->barriers, before + 1, &team->at_barrier);
    for (int other = 0; other < n_workers; other++)
        if (other != worker)
            wait_turn(&team->posts[other].barriers, before, &team->at_barrier, &slept);
    if (slept && worker > 0)
        keep_apart(team);
    return get(&team->posts[0].flags[before & 1]);
}

/* The value of `start` holds the run's number and its workers, read in one piece: a worker that was
 * left out of a run may wake late, in the middle of the next. */
#define WORKERS(value) ((int)((value) & 255))

WORKER(work)
{
    seat *s = p;
    fb_team *team = s->team;
    unsigned seen = 0;
    for (int slept;;) {
        seen = wait_turn(&team->start, seen, &team->at_start, &slept);
        if (get(&team->leaving))
            return WORKER_DONE;
        if (s->worker < WORKERS(seen)) {
            keep_apart(team);
            team->task(team->argument, s->worker, WORKERS(seen));
            fb_team_barrier(team, s->worker, 0);
        }
    }
}

void fb_team_run(fb_team *team, fb_task task, void *argument, int n_workers)
{
    team->task = task;
    team->argument = argument;
    team->n_workers = n_workers;
    for (int worker = 1; worker < n_workers; worker++) /* those left out of the last run lag behind */
        set(&team->posts[worker].barriers, team->posts[0].barriers);
    set(&team->posts[0].processor, processor());
    turn(&team->start, ((team->start >> 8) + 1) << 8 | (unsigned)n_workers, &team->at_start);
    task(argument, 0, n_workers);
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

static void hang_up(bell *b)
{
    lock_init(&b->lock);
    signal_init(&b->changed);
}

static void take_down(bell *b)
{
    lock_end(&b->lock);
    signal_end(&b->changed);
}

fb_team *fb_team_start(int size)
{
    size = size > FB_TEAM_MAX ? FB_TEAM_MAX : size;
    fb_team *team = fb_allocate(sizeof(fb_team));
    if (!team)
        return NULL;
    hang_up(&team->at_start);
    hang_up(&team->at_barrier);
    team->size = 1;
    team->posts = fb_allocate((size_t)size * sizeof(post));
    team->seats = fb_allocate((size_t)size * sizeof(seat));
    team->threads = fb_allocate((size_t)size * sizeof(thread_t));
    if (!team->posts || !team->seats || !team->threads) {
        fb_team_stop(team);
        return NULL;
    }
    for (int worker = 1; worker < size; worker++) {
        team->seats[worker] = (seat){team, worker};
        if (!start_thread(&team->threads[worker], &team->seats[worker])) {
            fb_team_stop(team);
            return NULL;
        }
        team->size = worker + 1;
    }
    return team;
}

static void free_team(fb_team *team)
{
    fb_release(team->posts);
    fb_release(team->seats);
    fb_release(team->threads);
    fb_release(team);
}

void fb_team_stop(fb_team *team)
{
    set(&team->leaving, 1);
    turn(&team->start, ((team->start >> 8) + 1) << 8, &team->at_start);
    for (int worker = 1; worker < team->size; worker++) {
#ifdef _WIN32
        WaitForSingleObject(team->threads[worker], INFINITE);
        CloseHandle(team->threads[worker]);
#else
        pthread_join(team->threads[worker], NULL);
#endif
    }
    take_down(&team->at_start);
    take_down(&team->at_barrier);
    free_team(team);
}

void fb_team_forget(fb_team *team) { free_team(team); }

/* A thread of a search comes back with its next fit after some milliseconds of Python. A fit beside
 * it that took the core meanwhile would sit at its barriers as long as Python has the core of its
 * worker. */
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
